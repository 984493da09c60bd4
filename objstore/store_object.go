package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/go-partd/partd/internal/engine/segment"
)

// readStore reads the object STORE, which identifies the store. If the store is not read-only, readStore
// creates the object if it is missing, and then tests that the bucket refuses to create it again with
// the same content.
func (o *objects) readStore(ctx context.Context) (*segment.Format, error) {
	b, err := o.readObject(ctx, storeName)
	if errors.Is(err, fs.ErrNotExist) && !o.opts.ReadOnly {
		b, err = o.createStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	f, err := parseStore(b)
	if err != nil {
		return nil, corrupt(objectPath(o.bucket, storeName), err)
	}
	if o.opts.ReadOnly {
		return f, nil
	}
	err = o.create(ctx, storeName, bytes.Clone(b))
	if err == nil {
		return nil, fmt.Errorf("%w: it overwrites an existing object instead of answering 412 to If-None-Match: *, "+
			"so a store with several writers would lose data: use a server that supports S3's conditional writes", ErrRefused)
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return f, o.checkRace(ctx)
}

// createStore creates the object STORE, unless the bucket contains records of an earlier store, which
// the new store could not read.
func (o *objects) createStore(ctx context.Context) ([]byte, error) {
	hasOtherRecords, err := o.hasRecords(ctx)
	if err == nil && !hasOtherRecords {
		var random [16]byte
		_, _ = rand.Read(random[:]) // rand.Read never fails
		err = o.create(ctx, storeName, encodeStore(&segment.Format{ID: le.Uint64(random[:]), Seed: le.Uint64(random[8:])}))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	b, err := o.readObject(ctx, storeName) // another process may have created the object
	if hasOtherRecords && errors.Is(err, fs.ErrNotExist) {
		err = errors.New("the object STORE is missing, but objects of a partly removed store exist below log/ or wait/: " +
			"remove them, or use another prefix")
	}
	return b, err
}

func (o *objects) hasRecords(ctx context.Context) (bool, error) {
	_, size, err := o.listLog(ctx, "")
	exists := size > 0
	if err == nil && !exists {
		err = o.retry(ctx, func(ctx context.Context) error {
			for object, err := range o.bucket.List(ctx, waitPrefix, "") {
				_, exists = parseMember(object)
				if exists || err != nil {
					return err
				}
			}
			return nil
		})
	}
	return exists, err
}

// To test the bucket, Open tries to create each of raceRounds objects raceCreators times at once. Only
// one creation of each object may succeed.
const (
	raceRounds   = 3
	raceCreators = 4
)

// errTwoWinners means that the bucket does not check and create an object in one atomic step.
var errTwoWinners = errors.New("the bucket let two writers create the same object at the same time, " +
	"and kept only one, so a store with several writers would lose data: use a server that supports S3's conditional writes")

// checkRace returns an error if the bucket lets several creations of one object succeed.
func (o *objects) checkRace(ctx context.Context) error {
	for range raceRounds {
		name := scratchPrefix + rand.Text()
		var errs [raceCreators]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = o.create(ctx, name, []byte{byte(i)}) })
		}
		wg.Wait()
		// Ignore errors, because writers may lack the permission to delete. Sweep will delete the object.
		_ = o.bucket.Delete(ctx, name)
		winners := 0
		for _, err := range errs {
			switch {
			case err == nil:
				winners++
			case !errors.Is(err, fs.ErrExist):
				return err
			}
		}
		if winners > 1 {
			return fmt.Errorf("%w: %d of %d creators of %s succeeded: %w",
				ErrRefused, winners, raceCreators, objectPath(o.bucket, name), errTwoWinners)
		}
	}
	return nil
}
