package flightd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

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
		o := &tables.ScanOptions{Columns: c.Columns, Limit: c.Limit, Last: c.Last, From: c.From, To: c.To, TimeColumn: c.TimeColumn, Part: c.Part, Dictionaries: c.Dictionaries, Recycle: true}
		if c.Where != "" {
			if o.Filter, err = filter.Parse(c.Where); err != nil {
				return nil, err
			}
		}
		table, err := s.store.Bucket(c.Bucket).Table(c.Name).At(ctx, c.At())
		if err != nil {
			return nil, err
		}
		return table.Scan(ctx, o)
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

// sendRowsFor decodes a ticket into c, calls open, and sends the rows of the returned reader.
func (s *Server) sendRowsFor(ticket []byte, c any, stream flight.FlightService_DoGetServer, open func(context.Context) (array.RecordReader, error)) error {
	if err := operations.Unmarshal(ticket, c); err != nil {
		return invalidCall(err)
	}
	return serving.Status(s.sendReader(stream, func(err error) error { return err }, open))
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
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return stream.Send(&flight.PutResult{AppMetadata: body})
}

func (s *Server) runAction(o *operations.Entry, body []byte, stream flight.FlightService_DoActionServer) (err error) {
	defer func() { err = serving.Status(err) }()
	ctx := stream.Context()
	if o.Writes {
		allowed := serving.RequireWrite
		if o.Slots == operations.CopySlot { // runCopying calls RequireWrite if necessary
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
		run = s.lock
	case operations.Unlock.Entry:
		run = s.unlock
	}
	answer := func(v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return stream.Send(&flight.Result{Body: body})
	}
	if o.Slots == operations.CopySlot {
		return s.runCopying(ctx, o, in, answer)
	}
	return run(ctx, s.store, in, answer)
}

const (
	maxLeases    = 10_000 // limit on the number of leases plus the number of calls waiting for a lock
	defaultLease = 30 * time.Second
	maxLease     = time.Hour
)

// leases contains the locks that clients hold. A lease expires unless the client renews it.
type leases struct {
	mu    sync.Mutex
	count int // leases, and calls waiting for a lock
	byID  map[string]*lease
}

type lease struct {
	lock  *tables.Lock
	ttl   time.Duration
	timer *time.Timer
}

// lock implements operations.TakeLock: it takes a lock, or renews the lease of a lock.
func (s *Server) lock(ctx context.Context, _ *tables.Store, input any, answer func(any) error) error {
	c := input.(*operations.Lock)
	if c.Lease != "" {
		return s.renew(c.Lease, answer)
	}
	ttl := time.Duration(c.Seconds * float64(time.Second))
	if c.Seconds == 0 {
		ttl = defaultLease
	}
	if c.Seconds < 0 || c.Seconds > maxLease.Seconds() || ttl < time.Millisecond {
		return status.Errorf(codes.InvalidArgument, "a lease of %v seconds is invalid: it must be from 0.001 to %v, or 0 for %v", c.Seconds, maxLease.Seconds(), defaultLease.Seconds())
	}
	l := &s.leases
	l.mu.Lock()
	isFull := l.count >= maxLeases
	if !isFull {
		l.count++
	}
	l.mu.Unlock()
	if isFull {
		return status.Errorf(codes.ResourceExhausted, "%d locks are held or requested: try again later", maxLeases)
	}
	lock, err := s.store.Bucket(c.Bucket).Table(c.Name).Lock(ctx)
	id := rand.Text()
	l.mu.Lock()
	if err != nil {
		l.count--
	} else {
		l.byID[id] = &lease{lock, ttl, time.AfterFunc(ttl, func() { _ = s.endLease(id) })}
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return answer(operations.Lock{Lease: id, Seconds: ttl.Seconds()})
}

func (s *Server) renew(id string, answer func(any) error) error {
	s.leases.mu.Lock()
	l := s.leases.byID[id]
	isLive := l != nil && l.timer.Stop()
	if isLive {
		l.timer.Reset(l.ttl)
	}
	s.leases.mu.Unlock()
	if !isLive {
		return status.Error(codes.NotFound, "the lease of the lock has expired or was released: take the lock again")
	}
	return answer(operations.Lock{Lease: id, Seconds: l.ttl.Seconds()})
}

func (s *Server) unlock(_ context.Context, _ *tables.Store, input any, answer func(any) error) error {
	if err := s.endLease(input.(*operations.Lock).Lease); err != nil {
		return err
	}
	return answer(operations.None{})
}

// endLease releases the lock of a lease, unless the lease has ended already.
func (s *Server) endLease(id string) error {
	s.leases.mu.Lock()
	l := s.leases.byID[id]
	if l != nil {
		delete(s.leases.byID, id)
		s.leases.count--
		l.timer.Stop()
	}
	s.leases.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.lock.Unlock()
}

func (s *Server) unlockAll() {
	s.leases.mu.Lock()
	ids := slices.Collect(maps.Keys(s.leases.byID))
	s.leases.mu.Unlock()
	for _, id := range ids {
		_ = s.endLease(id)
	}
}
