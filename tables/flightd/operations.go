package flightd

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/transform"
)

// The calls in this file serve package flightclient. They are not part of Flight SQL.

func invalidCall(err error) error {
	return status.Errorf(codes.InvalidArgument, "invalid call: %v", err)
}

func (s *Server) sendScan(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Scan
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (_ array.RecordReader, err error) {
		c.Recycle = true
		if c.Filter.String() == "" { // a client may send every field
			c.Filter = nil
		}
		table, err := s.store.Bucket(c.Bucket).Table(c.Name).At(ctx, c.At())
		if err != nil {
			return nil, err
		}
		return table.Scan(ctx, &c.ScanOptions)
	})
}

func (s *Server) sendChanges(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Changes
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (array.RecordReader, error) {
		table, err := s.store.Bucket(c.Bucket).Table(c.Name).At(ctx, c.At())
		if err != nil {
			return nil, err
		}
		return table.Changes(ctx, c.Since.At(), &tables.ChangesOptions{Keys: c.Keys, UUID: c.UUID})
	})
}

func (s *Server) sendResampled(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Resampling
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (array.RecordReader, error) {
		return transform.Resampled(ctx, s.store, &c.ResampleOptions)
	})
}

// sendRowsFor decodes a ticket into c, calls open, and sends the rows of the reader that open returns.
func (s *Server) sendRowsFor(ticket []byte, c any, stream flight.FlightService_DoGetServer, open func(context.Context) (array.RecordReader, error)) error {
	err := operations.Unmarshal(ticket, c)
	if errors.As(err, new(*filter.SyntaxError)) {
		return serving.Status(err)
	}
	if err != nil {
		return invalidCall(err)
	}
	return serving.Status(s.unsent.sendReader(stream, func(err error) error { return err }, open))
}

// runPut handles a stream whose command is an operations.Put.
func (s *Server) runPut(command []byte, stream flight.FlightService_DoPutServer, memory memory.Allocator) (err error) {
	defer func() { err = serving.Status(err) }()
	ctx := stream.Context()
	var c operations.Put
	if err := errors.Join(operations.Unmarshal(command, &c), c.Check()); err != nil {
		return invalidCall(err)
	}
	r, err := flightReader(stream, memory)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "the rows cannot be read: %v", err)
	}
	defer r.Release()
	in, err := newUpload(ctx, r)
	if err != nil {
		return err
	}
	var result operations.CorrectionAnswer
	b := s.store.Bucket(c.Bucket)
	switch {
	case c.Range != nil:
		result.RewriteResult, err = b.Table(c.Name).ReplaceRange(ctx, c.Range.From, c.Range.To, in, &tables.RangeOptions{TimeColumn: c.Range.TimeColumn})
	case c.Upsert != nil:
		result.RewriteResult, err = b.Table(c.Name).Upsert(ctx, in, &tables.UpsertOptions{Keys: c.Upsert.Keys, NullKeys: c.Upsert.NullKeys, AllColumns: c.AllColumns, MissingColumns: &result.MissingColumns})
	default:
		result.Version, err = b.Table(c.Name).Put(ctx, in, c.Mode, &tables.PutOptions{ID: c.ID, Metadata: c.Metadata, Settings: c.Settings, AllColumns: c.AllColumns, MissingColumns: &result.MissingColumns})
	}
	if err != nil {
		return err
	}
	answer := any(result)
	if c.Range == nil && c.Upsert == nil {
		answer = operations.PutAnswer{Version: result.Version, MissingColumns: result.MissingColumns}
	}
	return sendPutResult(stream, answer)
}

func (s *Server) runAction(o *operations.Entry, body []byte, stream flight.FlightService_DoActionServer) (err error) {
	defer func() { err = serving.Status(err) }()
	ctx := stream.Context()
	if o.Writes {
		allowed := serving.RequireWrite
		if o.Slots == operations.CopySlot { // copier.run calls RequireWrite if necessary
			allowed = serving.RequireAdmin
		}
		if err := allowed(ctx); err != nil {
			return err
		}
	}
	in, err := o.Parse(body)
	if err != nil {
		return invalidCall(err)
	}
	release, err := serving.Acquire(ctx, o.Slots)
	if err != nil {
		return err
	}
	defer release()
	run := o.Run
	switch o {
	case operations.TakeLock.Entry:
		run = s.leases.take
	case operations.Unlock.Entry:
		run = s.leases.release
	}
	answer := func(v any) error { return sendResult(stream, v) }
	if o.Slots == operations.CopySlot {
		return s.copies.run(ctx, o, in, answer)
	}
	return run(ctx, s.store, in, answer)
}
