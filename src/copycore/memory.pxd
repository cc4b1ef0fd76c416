# Arrays of C structs that grow: one place for realloc and its failure.

from libc.stdlib cimport realloc


cdef inline void* resized(void* memory, Py_ssize_t count, size_t each) except NULL nogil:
    # Room for ``count`` elements of ``each`` bytes, ``memory`` being the old room or NULL. Where
    # there is no memory the old room stays valid and belongs to the caller.
    cdef void* grown = realloc(memory, <size_t> max(count, 1) * each)
    if grown == NULL:
        with gil:
            raise MemoryError
    return grown
