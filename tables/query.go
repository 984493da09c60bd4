package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Engine runs SQL queries over the tables of a Store. Package duck implements it.
type Engine interface {
	// Query runs one SELECT statement and streams its result. It sees all rows acknowledged before the call,
	// including those in the tail. The caller must release the reader, but need not read it to the end.
	Query(ctx context.Context, s *Store, sql string, o *QueryOptions) (array.RecordReader, error)

	// Describe returns the parameters and columns of a statement without reading rows.
	Describe(ctx context.Context, s *Store, sql string, o *QueryOptions) (*QueryDescription, error)
}

// QueryOptions configures a query. Nil or the zero value selects the defaults.
type QueryOptions struct {
	// Bucket is the bucket of unqualified table names. For tables in other buckets, write "bucket"."table".
	Bucket string

	// At is the state at which tables are read; nil means the newest.
	At At

	// Before is the state of tables named "before"."bucket"."table", for comparing two states. Nil disallows such
	// names.
	Before At

	// Parameters is nil, or one row with a column for each parameter (?, $1 or $name), in order or by name.
	Parameters arrow.RecordBatch

	// Nanoseconds reads timestamps that have nanoseconds and a time zone as TIMESTAMP_NS in UTC, which requires a copy of
	// the table's rows. Without it, such timestamps are rounded to microseconds.
	Nanoseconds bool

	// Memory limits the query's memory, in bytes. Operations that need more use temporary files where possible. 0
	// means the engine's own limit, which Memory cannot exceed.
	Memory int64
}

// QueryDescription describes a statement's parameters and result.
type QueryDescription struct {
	Result     *arrow.Schema
	Parameters *arrow.Schema // one field per parameter; its type is null if any type is valid
}

// Query runs one SELECT statement over the store's tables with Options.Engine, and streams its result; see [Engine].
// Without an Engine, the error wraps errors.ErrUnsupported.
func (s *Store) Query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return nil, s.noEngine("query")
	}
	ctx, end := s.begin(ctx, "query", cmp.Or(o, new(QueryOptions)).Bucket, "")
	r, err := s.opts.Engine.Query(ctx, s, sql, o)
	if err != nil {
		end(Outcome{Err: err})
		return nil, err
	}
	return s.observe(r, end), nil
}

// Describe returns the parameters and columns of a statement; see [Engine].
func (s *Store) Describe(ctx context.Context, sql string, o *QueryOptions) (*QueryDescription, error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return nil, s.noEngine("describe")
	}
	return s.opts.Engine.Describe(ctx, s, sql, o)
}

func (s *Store) noEngine(op string) error {
	return &OpError{Op: op, Err: fmt.Errorf("%w: the store was opened without Options.Engine", errors.ErrUnsupported)}
}

type allowedBucketsKey struct{}

// WithBuckets returns a context where SQL statements, including package transform's, can name only tables of these
// buckets. It does not restrict functions that take a bucket's name as an argument.
func WithBuckets(ctx context.Context, buckets []string) context.Context {
	return context.WithValue(ctx, allowedBucketsKey{}, buckets)
}

// CheckAccess returns an error that wraps fs.ErrPermission unless SQL statements can name tables of the bucket.
// Engines call it.
func CheckAccess(ctx context.Context, bucket string) error {
	if allowed, ok := ctx.Value(allowedBucketsKey{}).([]string); ok && !slices.Contains(allowed, bucket) {
		return fmt.Errorf("SQL statements cannot access tables of bucket %q here: %w", bucket, fs.ErrPermission)
	}
	return nil
}
