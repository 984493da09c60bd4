package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// Options configures a store. Nil or the zero value selects the defaults.
type Options struct {
	// OpenBucket opens the object-store bucket at a URL. If it is nil, Open accepts only directories. For s3 and gs,
	// use cloud.OpenBucket from package objstore/cloud. If the bucket is an io.Closer, the Store closes it.
	OpenBucket func(ctx context.Context, url string) (objstore.Bucket, error)

	// Catalog is the location of the catalog. With the URL of a PostgreSQL database (postgres://…), several processes
	// or machines can write; the program must import _ "github.com/go-partd/partd/tables/postgres". A directory on this
	// machine contains catalog.db. "" means the tables' directory. Tables in a bucket require a Catalog.
	Catalog string

	// CacheDir is a directory for copies of an object-store bucket's files. Several processes can share it. "" means
	// partd-tables in the user's cache directory. CacheSize is the approximate limit, in bytes, for copies that are not
	// in use; 0 means [DefaultCacheSize].
	CacheDir  string
	CacheSize int64

	// TailDir is the directory of the tail if Tail is nil. "" means the directory named tail in the tables' directory.
	// For tables in an object store, "" means no tail, because other machines could not see rows in it.
	TailDir string

	// Tail stores small appends until they are folded into files. It must be able to list and delete keys. It must
	// contain nothing else, and must not be used by anything else while the Store is open. Nil means a log store in
	// TailDir. The Store does not close Tail.
	Tail partd.Partd

	// NoTail makes every put write its own files, which all processes see immediately. With ReadOnly, reads omit rows
	// that are not yet in files.
	NoTail bool

	// ReadOnly opens the tables in their current state, only for reading. Open takes no lock, so it does not block
	// another Store that has the tables open. Open copies the tail, and a catalog in a directory, to a temporary
	// directory. Reads return rows acknowledged before Open, including rows in the tail if [Store.SeesTail] returns
	// true. They return no later changes, except commits to a catalog in PostgreSQL. A directory that this process
	// cannot write is always opened this way.
	ReadOnly bool

	// Rebuild replaces a damaged catalog in a directory with what is left of it and of the tables' metadata files. The
	// damaged files get names that begin with catalog-damaged. No other process may use the directory.
	Rebuild bool

	// Sync makes appends to the tail survive a power failure once they are acknowledged; readers can see them earlier.
	// Rows in files always survive a power failure. If Tail is set, it must be a partd.Syncer.
	Sync bool

	// FoldBytes is the size, in bytes, at which a table's rows in the tail are moved into a file. A larger append is
	// written directly to a file. 0 means [DefaultFoldBytes]. The maximum is 1/32 of Memory, and at most 1 GiB.
	FoldBytes int64

	// FoldAge is how long rows can stay in the tail before they are moved into a file. 0 means [DefaultFoldAge]. A
	// negative value means no limit.
	FoldAge time.Duration

	// Memory limits the memory, in bytes, for the tail's rows and the tables' metadata. Data beyond the limit is read
	// again when needed. 0 means [DefaultMemory].
	Memory int64

	// Engine runs the SQL statements of Query and Exec; package duck provides one. Nil means that SQL is not available.
	Engine Engine

	// Observer is called for each operation, for metrics and traces. Nil means no Observer, at no cost.
	Observer Observer

	// Logger receives recoveries and background failures. Nil means no logging.
	Logger *slog.Logger
}

// withDefaults returns a copy of o with its defaults filled in, or an error if an option is invalid.
func (o *Options) withDefaults() (Options, error) {
	opts := *cmp.Or(o, new(Options))
	opts.FoldAge = cmp.Or(opts.FoldAge, DefaultFoldAge)
	opts.Memory = cmp.Or(opts.Memory, DefaultMemory)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	// Divide by 32, because a fold uses several times the memory of its rows, and several folds run concurrently.
	opts.FoldBytes = min(cmp.Or(opts.FoldBytes, DefaultFoldBytes), opts.Memory/32, 1<<30)
	switch {
	case opts.NoTail && opts.Tail != nil:
		return opts, errors.New("options Tail and NoTail cannot be combined")
	case opts.Memory < 1<<20:
		return opts, fmt.Errorf("option Memory is %d bytes: it must be at least 1 MiB", opts.Memory)
	case opts.FoldBytes < 0:
		return opts, fmt.Errorf("option FoldBytes is %d: it must be positive", opts.FoldBytes)
	}
	return opts, nil
}

func ignoreOutcome(Outcome) {}

// begin reports the start of an operation to the Observer, if there is one.
func (o *Options) begin(ctx context.Context, name, bucket, table string) (_ context.Context, end func(Outcome)) {
	if o.Observer == nil {
		return ctx, ignoreOutcome
	}
	start := time.Now()
	ctx, report := o.Observer.Begin(ctx, Operation{name, bucket, table})
	return ctx, func(result Outcome) {
		result.Duration = time.Since(start)
		report(result)
	}
}

// withCounts wraps r to count its rows and bytes in the Outcome. Without an Observer, the counts stay 0.
func (o *Options) withCounts(r array.RecordReader) (array.RecordReader, *Outcome) {
	sum := &Outcome{}
	if o.Observer == nil || r == nil {
		return r, sum
	}
	return &arrowsafe.Counted{RecordReader: r, OnBatch: func(b arrow.RecordBatch) {
		sum.Rows += b.NumRows()
		sum.Bytes += datafile.SizeOf(b)
	}}, sum
}

// observe returns a reader of r's batches that counts rows and bytes, and calls end with the counts when the reader is
// released. If err is not nil, it calls end and returns err.
func (o *Options) observe(r array.RecordReader, err error, end func(Outcome)) (array.RecordReader, error) {
	if err != nil {
		end(Outcome{Err: err})
		return nil, err
	}
	if o.Observer == nil {
		return r, nil
	}
	counted, sum := o.withCounts(r)
	out := arrowsafe.Reader(r.Schema(), arrowsafe.Batches(counted), func() {
		sum.Err = r.Err()
		r.Release()
		end(*sum)
	})
	if encoded, ok := r.(encodedReader); ok {
		return &observedEncoded{out, encoded, sum}, nil
	}
	return out, nil
}

// encodedReader is a query result that Flight can send without decoding it.
type encodedReader interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

type observedEncoded struct {
	array.RecordReader
	encoded encodedReader
	sum     *Outcome
}

func (o *observedEncoded) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m := range o.encoded.Messages() {
			o.sum.Rows += arrowsafe.Message{Header: m.DataHeader, Body: m.DataBody}.Rows()
			o.sum.Bytes += int64(len(m.DataBody))
			if !yield(m) {
				return
			}
		}
	}
}

func (o *observedEncoded) Err() error { return cmp.Or(o.RecordReader.Err(), o.encoded.Err()) }
