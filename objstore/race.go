package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// scratchPrefix is what the names of objects begin with that are made and removed.
const scratchPrefix = "sweep/"

// Who opens a store for writing has raceCreators make an object at the same time, and again
// with another, raceRounds in all.
const (
	raceRounds   = 3
	raceCreators = 4
)

// errTwoWinners is of a bucket that looks whether there is an object, and then makes it.
var errTwoWinners = errors.New("the bucket lets two writers make the same object at the same time, and keeps one of them: " +
	"no store in it is safe from several writers: use a server that keeps to S3's conditional writes")

// race refuses a bucket that lets more than one of several creators win.
func (s *Store) race(ctx context.Context) error {
	for range raceRounds {
		name := scratchPrefix + rand.Text()
		var errs [raceCreators]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = s.create(ctx, name, []byte{byte(i)}) })
		}
		wg.Wait()
		// One that stays is swept. Who may write here need not be allowed to delete.
		_ = s.bucket.Delete(ctx, name)
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
			return fmt.Errorf("%w: %d of %d creators of %s won: %w", ErrRefused, winners, raceCreators, place(s.bucket, name), errTwoWinners)
		}
	}
	return nil
}
