//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

// The bindings have these two calls, too, but only with a build tag, which every
// program that uses this package would have to be built with.

// #include <stdint.h>
// #include <stdlib.h>
// extern void *duckdb_to_arrow_schema(void *options, void **types, const char **names, uint64_t n, void *out);
// extern void *duckdb_data_chunk_to_arrow(void *options, void *chunk, void *out);
import "C"

import (
	"errors"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/cdata"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// arrowSchema returns columns as a schema.
func arrowSchema(o duckdb.ArrowOptions, types []duckdb.LogicalType, names []string) (*arrow.Schema, error) {
	if len(types) == 0 {
		return arrow.NewSchema(nil, nil), nil
	}
	size := C.size_t(unsafe.Sizeof(unsafe.Pointer(nil)))
	cTypes := (*unsafe.Pointer)(C.calloc(C.size_t(len(types)), size))
	defer C.free(unsafe.Pointer(cTypes))
	cNames := (**C.char)(C.calloc(C.size_t(len(types)), size))
	defer C.free(unsafe.Pointer(cNames))
	for i, t := range types {
		unsafe.Slice(cTypes, len(types))[i] = t.Ptr
		name := C.CString(names[i])
		defer C.free(unsafe.Pointer(name))
		unsafe.Slice(cNames, len(types))[i] = name
	}
	out := (*cdata.CArrowSchema)(C.calloc(1, C.size_t(unsafe.Sizeof(cdata.CArrowSchema{}))))
	defer C.free(unsafe.Pointer(out))
	defer cdata.ReleaseCArrowSchema(out)
	if err := arrowError(C.duckdb_to_arrow_schema(o.Ptr, cTypes, cNames, C.uint64_t(len(types)), unsafe.Pointer(out))); err != nil {
		return nil, err
	}
	return cdata.ImportCArrowSchema(out)
}

// arrowBatch returns a chunk as a batch, which does not need the chunk, or its
// database, any more.
func arrowBatch(o duckdb.ArrowOptions, schema *arrow.Schema, chunk duckdb.DataChunk) (arrow.RecordBatch, error) {
	out := (*cdata.CArrowArray)(C.calloc(1, C.size_t(unsafe.Sizeof(cdata.CArrowArray{}))))
	defer C.free(unsafe.Pointer(out))
	defer cdata.ReleaseCArrowArray(out)
	if err := arrowError(C.duckdb_data_chunk_to_arrow(o.Ptr, chunk.Ptr, unsafe.Pointer(out))); err != nil {
		return nil, err
	}
	return cdata.ImportCRecordBatchWithSchema(out, schema)
}

func arrowError(p unsafe.Pointer) error {
	e := duckdb.ErrorData{Ptr: p}
	defer duckdb.DestroyErrorData(&e)
	if p == nil || !duckdb.ErrorDataHasError(e) {
		return nil
	}
	return errors.New(duckdb.ErrorDataMessage(e))
}
