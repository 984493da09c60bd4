//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

/*
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

extern uint64_t duckdb_data_chunk_get_size(void *chunk);
extern void *duckdb_data_chunk_get_vector(void *chunk, uint64_t column);
extern void *duckdb_vector_get_data(void *vector);
extern void *duckdb_scalar_function_get_extra_info(void *info);

// A block has the bounds of n bitmaps, as offsets in the block, and the bitmaps themselves.
struct bitmaps {
	uint64_t n;
	struct { uint64_t start, end; } bounds[];
};

static void keep_rows(void *info, void *chunk, void *result) {
	struct bitmaps *b = duckdb_scalar_function_get_extra_info(info);
	uint64_t *files = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	uint64_t *rows = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 1));
	bool *keep = duckdb_vector_get_data(result);
	uint64_t n = duckdb_data_chunk_get_size(chunk);
	for (uint64_t i = 0; i < n; i++) {
		keep[i] = true;
		if (files[i] < b->n) {
			uint64_t start = b->bounds[files[i]].start, row = rows[i];
			if (row / 8 < b->bounds[files[i]].end - start)
				keep[i] = !(((uint8_t *)b)[start + row / 8] >> row % 8 & 1);
		}
	}
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

// KeepFunction is an SQL function that returns whether a row is not deleted. A view calls it with file_index and
// file_row_number, columns that read_parquet adds. A join with the deleted rows would take up to three times as long.
//
// The function is written in C, because Go code cannot be called in the threads of a worker process: it serves requests
// in an init function, and Go delays such calls until all init functions have returned.
type KeepFunction struct {
	Name    string
	Path    string   // file with the bitmaps
	Bitmaps []Bitmap // one for each value of file_index
}

// Bitmap is the place of a bitmap in a file. Bit i%8 of the bitmap's byte i/8 is set if row i is deleted.
type Bitmap struct{ Offset, Bytes int64 }

// bytes returns the size of the function's bitmaps.
func (k *KeepFunction) bytes() (n int64) {
	for _, b := range k.Bitmaps {
		n += b.Bytes
	}
	return n
}

// addKeepFunction defines a function, which exists until the database is closed.
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

// loadBitmaps reads a function's bitmaps into a block of C memory, as struct bitmaps describes it.
func loadBitmaps(k *KeepFunction) (unsafe.Pointer, error) {
	file, err := os.Open(k.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	n := len(k.Bitmaps)
	position := 8 + 16*n
	size := position + int(k.bytes())
	p := C.calloc(1, C.size_t(size))
	if p == nil {
		return nil, OutOfMemoryError(errors.New("cannot allocate memory for the deleted rows"))
	}
	block, header := unsafe.Slice((*byte)(p), size), unsafe.Slice((*uint64)(p), 1+2*n)
	header[0] = uint64(n)
	for i, b := range k.Bitmaps {
		end := position + int(b.Bytes)
		header[1+2*i], header[2+2*i] = uint64(position), uint64(end)
		if _, err := io.ReadFull(io.NewSectionReader(file, b.Offset, b.Bytes), block[position:end]); err != nil {
			C.free(p)
			return nil, err
		}
		position = end
	}
	return p, nil
}
