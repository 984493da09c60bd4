package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// EncodeParameters returns rows of parameters for a statement as an Arrow stream. It returns nil if rows is nil.
func EncodeParameters(rows arrow.RecordBatch) ([]byte, error) {
	if rows == nil {
		return nil, nil
	}
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(rows.Schema()))
	err := errors.Join(w.Write(rows), w.Close())
	return b.Bytes(), err
}

// DecodeParameters returns the only batch of an Arrow stream from a client, or nil if stream is nil. It returns an
// error if the stream has no batch or several, or if the batch needs more than limit bytes. The caller must release the
// batch.
func DecodeParameters(ctx context.Context, stream []byte, limit int64) (arrow.RecordBatch, error) {
	if stream == nil {
		return nil, nil
	}
	r, err := arrowsafe.NewReader(bytes.NewReader(stream), int64(len(stream)), limit)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	if !r.Next() {
		return nil, fmt.Errorf("no row: %w", r.Err())
	}
	rows := r.RecordBatch()
	if _, err := (&arrowsafe.Checker{Limit: limit}).Check(ctx, rows); err != nil {
		return nil, err
	}
	rows.Retain()
	if r.Next() || r.Err() != nil {
		rows.Release()
		return nil, cmp.Or(r.Err(), errors.New("more than one batch: send all rows in one batch"))
	}
	return rows, nil
}
