package encode

import (
	"context"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/nostore"
)

// layer is what both stores of this package pass on as it is.
type layer struct{ below partd.Partd }

func (l layer) beneath() partd.Partd { return nostore.Or(l.below) }

// Flush moves what the store beneath holds back to the one beneath it.
func (l layer) Flush(ctx context.Context) error { return partd.Flush(ctx, l.beneath()) }

// Sync returns once everything acknowledged before the call survives a power
// loss.
func (l layer) Sync(ctx context.Context) error { return partd.Sync(ctx, l.beneath()) }

// Close flushes and closes the underlying store, as [partd.Close] does. The flush
// may take any length of time: to limit it, call Flush with a context first.
func (l layer) Close() error { return partd.Close(context.Background(), l.beneath()) }

// Unwrap returns the underlying store, for inspection only.
func (l layer) Unwrap() partd.Partd { return l.below }
