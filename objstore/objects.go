package objstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// objects reads and creates the store's objects in the bucket and retries failed requests. Its
// fields do not change after Open.
type objects struct {
	bucket Bucket
	opts   Options
	format *segment.Format
	writer writerID
}

// retry calls [Retry] for requests that transfer at most a segment.
func (o *objects) retry(ctx context.Context, f func(ctx context.Context) error) error {
	return Retry(ctx, o.opts.RetryFor, o.opts.tableSize(), nil, f)
}

// create creates an object. If it exists, the error wraps fs.ErrExist.
func (o *objects) create(ctx context.Context, name string, data []byte) error {
	return o.retry(ctx, func(ctx context.Context) error { return o.bucket.Create(ctx, name, data) })
}

func (o *objects) readObject(ctx context.Context, name string) (b []byte, err error) {
	err = o.retry(ctx, func(ctx context.Context) error { b, err = o.readPart(ctx, name, 0, -1); return err })
	return b, err
}

// readPart reads n bytes of an object from offset off, or all bytes from off if n is negative.
func (o *objects) readPart(ctx context.Context, name string, off, n int64) ([]byte, error) {
	r, err := o.bucket.ReadRange(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// listLog lists the log's objects with names greater than after. It returns the highest number and
// the size of the largest object, or zeros if there are none.
func (o *objects) listLog(ctx context.Context, after string) (highest uint64, largest int64, err error) {
	err = o.retry(ctx, func(ctx context.Context) error {
		for object, err := range o.bucket.List(ctx, "log/", after) {
			if err != nil {
				return err
			}
			digits := strings.TrimPrefix(object.Name, "log/")
			if n, err := strconv.ParseUint(digits, 10, 64); err == nil && len(digits) == 20 {
				highest, largest, after = n, max(object.Size, largest, 1), object.Name
			}
		}
		return nil
	})
	return highest, largest, err
}

// Retry calls f, which makes one request to a bucket, until f succeeds or fails permanently, or until
// the time limit expires. size is the number of bytes that a request transfers. Because connections can
// hang, each call to f may take only as long as limit, plus a second for each MiB of size. If progress
// is not nil, f may increase *progress, which restarts the time limit.
func Retry(
	ctx context.Context, limit time.Duration, size int64, progress *int, f func(ctx context.Context) error,
) error {
	if f == nil {
		return errors.New("Retry: the function f must not be nil")
	}
	deadline := time.Now().Add(limit)
	attemptLimit := max(limit, time.Second) + time.Duration(size>>20)*time.Second
	sawDamage, lastDone := false, 0
	for attempt := 0; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, attemptLimit)
		err := f(attemptCtx)
		cancel()
		if progress != nil && *progress > lastDone {
			sawDamage, lastDone, deadline = false, *progress, time.Now().Add(limit)
		}
		switch {
		case err == nil || isOutcomeKnown(err):
			return err
		case ctx.Err() != nil:
			return errors.Join(canceled.Err(ctx), err)
		case errors.As(err, new(*partd.CorruptError)): // retry once, because the network may have flipped bits
			if sawDamage {
				return err
			}
			sawDamage = true
		case time.Now().After(deadline):
			return err
		}
		if err := pauseBeforeRetry(ctx, attempt); err != nil {
			return err
		}
	}
}

// isOutcomeKnown reports whether the outcome of a failed request is known, so retrying is useless.
func isOutcomeKnown(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused)
}

// pauseBeforeRetry waits for a random time, so that competing writers do not retry at the same
// moment. The time increases with attempt, the number of failed attempts.
func pauseBeforeRetry(ctx context.Context, attempt int) error {
	return canceled.Wait(ctx, time.After(randomUpTo(min(10*time.Millisecond<<min(attempt, 8), time.Second))))
}

func randomUpTo(limit time.Duration) time.Duration { return rand.N(limit+1) + time.Millisecond }

// ctxMutex is a mutex that can be locked with a context.
type ctxMutex chan struct{}

func (t ctxMutex) lock(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	return canceled.Send(ctx, t, struct{}{})
}

func (t ctxMutex) unlock() { <-t }
