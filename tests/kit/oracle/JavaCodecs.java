// Kafka's own compression classes as a peer: requests on standard input, answers on standard output.
//
// Request: 'c' or 'd' (compress, decompress), then magic, codec id, size (all int32) and that many bytes.
// Answer: 1 or 0 for done or refused, size and that many bytes (the reason, if refused).

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.utils.BufferSupplier;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

public class JavaCodecs {
    static byte[] compress(Compression codec, byte magic, byte[] data) throws Exception {
        ByteBufferOutputStream packed = new ByteBufferOutputStream(512);
        try (OutputStream out = codec.wrapForOutput(packed, magic)) {
            out.write(data);
        }
        ByteBuffer buffer = packed.buffer();
        buffer.flip();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static byte[] decompress(Compression codec, byte magic, byte[] data) throws Exception {
        ByteBuffer buffer = ByteBuffer.wrap(data);
        try (InputStream in = codec.wrapForInput(buffer, magic, BufferSupplier.NO_CACHING)) {
            return in.readAllBytes();
        }
    }

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        while (true) {
            int operation = in.read();
            if (operation < 0) {
                return;
            }
            byte magic = (byte) in.readInt();
            CompressionType type = CompressionType.forId(in.readInt());
            byte[] data = new byte[in.readInt()];
            in.readFully(data);
            Compression codec = Compression.of(type).build();
            byte[] answer;
            try {
                answer = operation == 'c' ? compress(codec, magic, data) : decompress(codec, magic, data);
                out.write(1);
            } catch (Throwable refused) {
                answer = String.valueOf(refused).getBytes("UTF-8");
                out.write(0);
            }
            out.writeInt(answer.length);
            out.write(answer);
            out.flush();
        }
    }
}
