package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/progress"
)

// target is the store that a command fills, and how far that is.
type target struct {
	app          *app
	url          string
	add, replace bool
	words        targetWords
	stage        stage
	dropped      bool          // what it held
	compareBy    func() string // says how what is stored can be compared, nil for no way
}

// targetWords are what a command calls what it does.
type targetWords struct {
	store, double      string
	all, uncompared    string // of what is stored
	some, afterDropped string
}

// stage is how far a command is.
type stage uint8

const (
	checking stage = iota // nothing was changed yet
	dropping              // what the store held
	filling               // the store
	stored                // everything, but not compared
	differs               // the comparison found a difference
	compared              // without a difference
)

// prepare makes sure that the store's content is what the flags say. Its keys are
// those of bottom; check looks at a store that holds some before it is changed.
func (t *target) prepare(ctx context.Context, bar *progress.Bar, store, bottom partd.Partd, check func() error) error {
	for _, err := range partd.Keys(ctx, bottom) {
		if err == nil && !t.add && !t.replace {
			err = fmt.Errorf("the store %s already holds keys: add to them with --append, or drop them first with --replace", t.url)
		}
		if err == nil {
			err = check()
		}
		if err != nil {
			return err
		}
		if t.replace {
			bar.Wait("dropping what the "+t.words.store+" holds", nil)
			t.enter(dropping)
			if err := store.Drop(ctx); err != nil {
				if isServer(t.url) && errors.Is(err, fs.ErrPermission) {
					t.enter(checking) // the server refused it before it touched anything
				}
				return err
			}
			t.dropped = true
		}
		break
	}
	t.enter(filling)
	return nil
}

// enter notes how far the command is, also for a report that does not wait for it.
func (t *target) enter(s stage) {
	t.stage = s
	advice := t.leaves(true, "")
	t.app.abandoned.Store(&advice)
}

// failed adds to an error what the store holds now, and how to go on.
func (t *target) failed(err error, touched bool, count string) error {
	f := &failure{err: err}
	errors.As(err, &f)
	f.advice = t.leaves(touched, count)
	return f
}

// leaves says what the store holds if the command ends now, and how to go on.
// Touched says that something may have been written to it, and count of how much
// that is known.
func (t *target) leaves(touched bool, count string) string {
	again := "Run the command again with --replace"
	if t.add {
		again = "Running the command again would double " + t.words.double
	}
	switch {
	case t.stage == dropping:
		return fmt.Sprintf("What %s held may be gone, all of it or a part. %s", t.url, again)
	case t.stage == compared:
		return fmt.Sprintf("%s stored in %s, and the comparison found no difference", t.words.all, t.url)
	case t.stage == differs:
		return fmt.Sprintf("The store %s cannot be trusted. %s", t.url, again)
	case t.stage == stored && !t.add && t.compareBy != nil:
		return fmt.Sprintf("%s stored in %s, but %s: %s. Or run the command again with --replace", t.words.all, t.url, t.words.uncompared, t.compareBy())
	case t.stage == stored:
		return fmt.Sprintf("%s stored in %s, but %s. %s", t.words.all, t.url, t.words.uncompared, again)
	case t.stage == checking || !touched && !t.dropped:
		return ""
	case !touched:
		return fmt.Sprintf("What %s held was dropped; nothing is stored in its place. %s", t.url, again)
	case t.add:
		return fmt.Sprintf("The store %s now holds some of %s beside what it held before. %s", t.url, t.words.some, again)
	case t.dropped:
		return fmt.Sprintf(t.words.afterDropped+" incomplete%s. %s", t.url, count, again)
	}
	return fmt.Sprintf("The store %s is incomplete%s. %s", t.url, count, again)
}
