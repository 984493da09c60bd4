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

// Engine runs SQL over the tables of a Store. Package duck has one.
type Engine interface {
	// Query runs one SELECT and streams its result. Rows that were acknowledged
	// before it began are seen, those in the tail, too. The caller releases the
	// reader; it may do so before the end.
	Query(ctx context.Context, s *Store, sql string, o *QueryOptions) (array.RecordReader, error)

	// Describe returns what Query would take and yield, and reads no rows.
	Describe(ctx context.Context, s *Store, sql string, o *QueryOptions) (*QueryDescription, error)
}

// QueryOptions of Query. The zero value, and nil, are the defaults.
type QueryOptions struct {
	// Bucket is where names without a bucket are looked up. Other buckets are
	// reached as "bucket"."table".
	Bucket string

	// At is the state of each table that the statement names; nil is the newest.
	At At

	// Before is the state of tables that are named as "before"."bucket"."table", for what
	// compares two; nil: there are none.
	Before At

	// Parameters has a row, with a column for each of the statement's parameters
	// (?, $1 or $name), in their order, or by name; nil where it has none.
	Parameters arrow.RecordBatch

	// Nanoseconds reads columns whose times have nanoseconds and a zone as TIMESTAMP_NS,
	// in UTC, where they are else rounded to microseconds. The table's rows are copied
	// for it.
	Nanoseconds bool

	// Memory bounds what the query may hold, in bytes; what lies above it goes to
	// temporary files where the operation can. 0 means the engine's own limit,
	// which this cannot exceed.
	Memory int64
}

// QueryDescription says what a statement takes and yields.
type QueryDescription struct {
	Result     *arrow.Schema
	Parameters *arrow.Schema // a field for each; its type is null where any fits
}

// Query runs one SELECT over the store's tables with Options.Engine, and streams
// its result; see [Engine]. Without one, the error wraps errors.ErrUnsupported.
func (s *Store) Query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	s = s.made()
	if s.opts.Engine == nil {
		return nil, s.noEngine("query")
	}
	ctx, end := s.begin(ctx, "query", cmp.Or(o, new(QueryOptions)).Bucket, "")
	r, err := s.opts.Engine.Query(ctx, s, sql, o)
	if err != nil {
		end(Outcome{Err: err})
		return nil, err
	}
	return s.observed(r, end), nil
}

// Describe returns what Query would take and yield; see [Engine].
func (s *Store) Describe(ctx context.Context, sql string, o *QueryOptions) (*QueryDescription, error) {
	s = s.made()
	if s.opts.Engine == nil {
		return nil, s.noEngine("describe")
	}
	return s.opts.Engine.Describe(ctx, s, sql, o)
}

func (s *Store) noEngine(op string) error {
	return &OpError{Op: op, Err: fmt.Errorf("%w: the store was opened without Options.Engine", errors.ErrUnsupported)}
}

type reachKey struct{}

// WithBuckets is a context whose statements of SQL, those of package transform as
// well, may name tables of these buckets alone. What takes a bucket by its name is
// not held to it.
func WithBuckets(ctx context.Context, buckets []string) context.Context {
	return context.WithValue(ctx, reachKey{}, buckets)
}

// Reaches is nil where statements may name tables of a bucket; its error wraps
// fs.ErrPermission. It is for an Engine.
func Reaches(ctx context.Context, bucket string) error {
	if all, ok := ctx.Value(reachKey{}).([]string); ok && !slices.Contains(all, bucket) {
		return fmt.Errorf("tables of bucket %q are out of reach here: %w", bucket, fs.ErrPermission)
	}
	return nil
}
