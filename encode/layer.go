package encode

import (
	"context"

	"github.com/go-partd/partd"
)

// layer is what both stores of this package pass on as it is.
type layer struct{ below partd.Partd }

// Flush moves what the store beneath holds back to the one beneath it.
func (l layer) Flush(ctx context.Context) error { return partd.Flush(ctx, l.below) }

// Sync returns once all that was acknowledged before survives a loss of power.
func (l layer) Sync(ctx context.Context) error { return partd.Sync(ctx, l.below) }

// Close flushes and closes the store beneath, as [partd.Close] does. What a flush
// may take is unbounded here: call Flush before, with a context, to bound it.
func (l layer) Close() error { return partd.Close(context.Background(), l.below) }

// Unwrap returns the store beneath, for looking only.
func (l layer) Unwrap() partd.Partd { return l.below }
