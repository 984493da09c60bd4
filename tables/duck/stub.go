//go:build !((cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64))

package duck

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
)

// Engine replaces the DuckDB engine in programs that are built without DuckDB. All queries fail.
type Engine struct{}

var errMissing = fmt.Errorf("%w: SQL needs DuckDB, but this program was built without cgo, or for a platform that DuckDB does not support: build it with CGO_ENABLED=1 and a C compiler", errors.ErrUnsupported)

// New returns an engine whose queries fail, because the program was built without DuckDB.
func New(*Options) (*Engine, error) { return &Engine{}, nil }

// Close does nothing.
func (*Engine) Close() error { return nil }

// Query returns an error, because the program was built without DuckDB.
func (*Engine) Query(context.Context, *tables.Store, string, *tables.QueryOptions) (array.RecordReader, error) {
	return nil, &tables.OpError{Op: "query", Err: errMissing}
}

// Describe returns an error, because the program was built without DuckDB.
func (*Engine) Describe(context.Context, *tables.Store, string, *tables.QueryOptions) (*tables.QueryDescription, error) {
	return nil, &tables.OpError{Op: "describe", Err: errMissing}
}

// Each yields an error, because the program was built without DuckDB.
func Each(context.Context, string, []EachInput, *EachOptions) iter.Seq2[array.RecordReader, error] {
	return func(yield func(array.RecordReader, error) bool) {
		yield(nil, &tables.OpError{Op: "each", Err: errMissing})
	}
}

// PlanEach returns an error, because the program was built without DuckDB.
func PlanEach(context.Context, string, []EachInput, *EachOptions) (*EachPlan, error) {
	return nil, &tables.OpError{Op: "each", Err: errMissing}
}

// ColumnTypes returns nil.
func (*Engine) ColumnTypes(_, _ *arrow.Schema) []string { return nil }
