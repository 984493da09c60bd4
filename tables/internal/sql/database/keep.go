//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

/*
#cgo CFLAGS: -O3
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint64_t duckdb_data_chunk_get_size(void *chunk);
extern void *duckdb_data_chunk_get_vector(void *chunk, uint64_t column);
extern void *duckdb_vector_get_data(void *vector);
extern void *duckdb_scalar_function_get_extra_info(void *info);

// The block in info consists of 64-bit words: the number of bitmaps, the start and the end of each bitmap as positions
// in the block, and the bitmaps.
static uint64_t deleted_word(const uint64_t *block, uint64_t file, uint64_t index) {
	if (file >= block[0] || index >= block[2 + 2 * file] - block[1 + 2 * file])
		return 0;
	return block[block[1 + 2 * file] + index];
}

// keep_range sets keep for n consecutive rows of a file.
static void keep_range(const uint64_t *block, uint64_t file, uint64_t row, uint64_t n, bool *keep) {
	const uint64_t ones = 0x0101010101010101;
	uint64_t shift = row % 64, index = row / 64, word = deleted_word(block, file, index);
	for (uint64_t i = 0; i < n; i += 64) {
		uint64_t bits = word >> shift;
		word = deleted_word(block, file, ++index);
		if (shift > 0)
			bits |= word << (64 - shift);
		uint64_t bytes[8];
		for (int j = 0; j < 8; j++) { // spread 8 bits over 8 bytes; x86-64 and arm64 are little-endian
			uint64_t spread = (bits >> 8 * j & 0xff) * ones & 0x8040201008040201;
			bytes[j] = ((spread + 0x7f * ones) >> 7 & ones) ^ ones;
		}
		memcpy(keep + i, bytes, n - i < 64 ? n - i : 64);
	}
}

// are_consecutive reports whether all rows are in the first row's file, each after the one before. It has no branches,
// so that compilers use vector instructions.
static inline __attribute__((always_inline)) bool are_consecutive(const uint64_t *files, const uint64_t *rows, uint64_t n) {
	uint64_t differences = 0;
	for (uint64_t i = 0; i < n; i++)
		differences |= (files[i] ^ files[0]) | ((rows[i] - i) ^ rows[0]);
	return differences == 0;
}

#ifdef __x86_64__
static __attribute__((target("avx2"))) bool are_consecutive_avx2(const uint64_t *files, const uint64_t *rows, uint64_t n) {
	return are_consecutive(files, rows, n);
}
#define ARE_CONSECUTIVE (__builtin_cpu_supports("avx2") ? are_consecutive_avx2 : are_consecutive)
#else
#define ARE_CONSECUTIVE are_consecutive
#endif

static void keep_rows(void *info, void *chunk, void *result) {
	const uint64_t *block = duckdb_scalar_function_get_extra_info(info);
	const uint64_t *files = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	const uint64_t *rows = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 1));
	bool *keep = duckdb_vector_get_data(result);
	uint64_t n = duckdb_data_chunk_get_size(chunk);
	if (n > 0 && ARE_CONSECUTIVE(files, rows, n)) {
		keep_range(block, files[0], rows[0], n, keep);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		keep[i] = !(deleted_word(block, files[i], rows[i] / 64) >> rows[i] % 64 & 1);
}

static void *keep_rows_pointer(void) { return keep_rows; }
*/
import "C"

import (
	"errors"
	"io"
	"os"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// KeepFunction is an SQL function that returns true for rows that are not deleted. A view calls it with file_index and
// file_row_number, which are columns that read_parquet offers. A join with the deleted rows would take up to three
// times as long.
//
// The function is written in C, because DuckDB's threads in a worker process cannot call Go code: a worker serves
// requests in an init function, and Go delays calls from other threads until all init functions have returned.
type KeepFunction struct {
	Name    string
	Path    string   // path of the file with the bitmaps
	Bitmaps []Bitmap // one for each value of file_index
}

// Bitmap locates a bitmap in a file, in bytes. The bitmap consists of 64-bit words in the machine's byte order: bit
// i%64 of word i/64 is set if row i is deleted. Rows after the bitmap's end are not deleted.
type Bitmap struct{ Offset, Bytes int64 }

// Bytes returns the total size of the function's bitmaps.
func (k *KeepFunction) Bytes() (n int64) {
	for _, b := range k.Bitmaps {
		n += b.Bytes
	}
	return n
}

// addKeepFunction defines the function k. It exists until the database is closed.
func (d *Database) addKeepFunction(k *KeepFunction) error {
	bitmaps, err := loadBitmaps(k)
	if err != nil {
		return err
	}
	f := duckdb.CreateScalarFunction()
	defer duckdb.DestroyScalarFunction(&f)
	duckdb.ScalarFunctionSetName(f, k.Name)
	for _, t := range []duckdb.Type{duckdb.TypeUBigInt, duckdb.TypeBigInt} {
		argument := duckdb.CreateLogicalType(t)
		duckdb.ScalarFunctionAddParameter(f, argument)
		duckdb.DestroyLogicalType(&argument)
	}
	result := duckdb.CreateLogicalType(duckdb.TypeBoolean)
	defer duckdb.DestroyLogicalType(&result)
	duckdb.ScalarFunctionSetReturnType(f, result)
	duckdb.ScalarFunctionSetExtraInfo(f, bitmaps, C.free) // DuckDB frees the bitmaps with the function
	duckdb.ScalarFunctionSetFunction(f, C.keep_rows_pointer())
	if duckdb.RegisterScalarFunction(d.conn, f) == duckdb.StateError {
		return errors.New("cannot define the function " + k.Name)
	}
	return nil
}

// loadBitmaps reads a function's bitmaps into a block of C memory, as keep_rows describes it.
func loadBitmaps(k *KeepFunction) (unsafe.Pointer, error) {
	const wordBytes = 8
	file, err := os.Open(k.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	position := 1 + 2*len(k.Bitmaps) // position of the next bitmap in the block, in words
	size := wordBytes*position + int(k.Bytes())
	p := C.calloc(1, C.size_t(size))
	if p == nil {
		return nil, OutOfMemoryError(errors.New("cannot allocate memory for the deleted rows"))
	}
	block, header := unsafe.Slice((*byte)(p), size), unsafe.Slice((*uint64)(p), position)
	header[0] = uint64(len(k.Bitmaps))
	for i, b := range k.Bitmaps {
		end := position + int(b.Bytes)/wordBytes
		header[1+2*i], header[2+2*i] = uint64(position), uint64(end)
		if _, err := io.ReadFull(io.NewSectionReader(file, b.Offset, b.Bytes), block[wordBytes*position:wordBytes*end]); err != nil {
			C.free(p)
			return nil, err
		}
		position = end
	}
	return p, nil
}
