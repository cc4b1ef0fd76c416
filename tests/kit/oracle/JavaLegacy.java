// Kafka's own record classes as a peer for messages of magic 0 and 1: questions on standard input,
// answers on standard output.
//
// Question: the size (int16) of a text, and the text. It is one of
//     "w magic codec append-time base-offset message;…" to write a set; append-time is −1 for
//         CreateTime. Answered by its bytes in hex.
//     "r hex" to read the entries of a slice as a consumer does that checks CRCs. Answered by
//         "message;…".
// A message is "offset,timestamp,key,value", contents in hex or "-" for null.
// Answer: 1 or 0 for done or refused, the size (int32) of a text, and the text (the reason, if
// refused).

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.StringJoiner;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;

public class JavaLegacy {
    static final HexFormat HEX = HexFormat.of();

    static byte[] content(String text) {
        return text.equals("-") ? null : HEX.parseHex(text);
    }

    static String text(ByteBuffer content) {
        if (content == null) {
            return "-";
        }
        byte[] bytes = new byte[content.remaining()];
        content.get(bytes);
        return HEX.formatHex(bytes);
    }

    static String write(String[] words) {
        Compression codec = Compression.of(CompressionType.forId(Integer.parseInt(words[2]))).build();
        long appendTime = Long.parseLong(words[3]);
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(1024), Byte.parseByte(words[1]), codec,
            appendTime < 0 ? TimestampType.CREATE_TIME : TimestampType.LOG_APPEND_TIME,
            Long.parseLong(words[4]), appendTime);
        for (String message : words[5].split(";")) {
            String[] parts = message.split(",", -1);
            builder.appendWithOffset(Long.parseLong(parts[0]), Long.parseLong(parts[1]),
                content(parts[2]), content(parts[3]));
        }
        return text(builder.build().buffer());
    }

    static String read(String hex) {
        StringJoiner messages = new StringJoiner(";");
        for (RecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(HEX.parseHex(hex))).batches()) {
            batch.ensureValid();
            for (Record record : batch) {
                record.ensureValid();
                messages.add(record.offset() + "," + record.timestamp() + ","
                    + text(record.key()) + "," + text(record.value()));
            }
        }
        return messages.toString();
    }

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        while (true) {
            String[] words;
            try {
                words = in.readUTF().split(" ", -1);
            } catch (EOFException end) {
                return;
            }
            String answer;
            boolean done = true;
            try {
                answer = words[0].equals("w") ? write(words) : read(words[1]);
            } catch (Throwable refused) {
                answer = String.valueOf(refused);
                done = false;
            }
            byte[] bytes = answer.getBytes("UTF-8");
            out.writeByte(done ? 1 : 0);
            out.writeInt(bytes.length);
            out.write(bytes);
            out.flush();
        }
    }
}
