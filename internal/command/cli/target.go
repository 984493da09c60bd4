package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
)

// target is the store that a command fills, and its state.
type target struct {
	app           *app
	url           string
	add, replace  bool
	words         targetWords
	stage         stage
	dropped       bool          // the store's earlier content was dropped
	compareAdvice func() string // returns advice on comparing the content by hand; nil if that is impossible
}

// targetWords contains the parts of messages that differ between commands. A %s stands for the
// store's URL.
type targetWords struct {
	store        string // name of the store that the command fills: "store" or "target"
	repeated     string // sentence that warns against running the command again with --append
	allStored    string // clause that says that everything is stored, as in "All records are stored in %s"
	uncompared   string // completes "All records are stored in URL, but …"
	appended     string // completes "The store URL now has a part of …", as in "these records"
	afterDropped string // clause that says that the store is incomplete after its content was dropped
}

type stage uint8

const (
	checking stage = iota // nothing was changed yet
	dropping              // dropping the earlier content
	filling               // appending
	stored                // all data is stored, but not compared
	differs               // the comparison found a difference
	compared              // the comparison found no difference
)

// prepare checks that the store is empty, or drops its content if the flags say so. It looks for
// keys in bottom, the store below all layers. If there are keys, prepare calls check before it
// changes the store.
func (t *target) prepare(ctx context.Context, bar *progress.Bar, store, bottom partd.Partd, check func() error) error {
	for _, err := range partd.Keys(ctx, bottom) {
		if isServer(t.url) && errors.Is(err, fs.ErrNotExist) {
			break // the namespace expired, so it has no keys
		}
		if err == nil && !t.add && !t.replace {
			err = fmt.Errorf("the store %s already has keys: use --replace to drop them first, --append to add to them, or another %s", t.url, map[string]string{"store": "--store", "target": "--to"}[t.words.store])
		}
		if err == nil {
			err = check()
		}
		if err != nil {
			return err
		}
		if t.replace {
			bar.Wait("dropping the content of the "+t.words.store, nil)
			t.setStage(dropping)
			if err := store.Drop(ctx); err != nil {
				if isServer(t.url) && errors.Is(err, fs.ErrPermission) {
					t.setStage(checking) // the server rejected the drop before it changed anything
				}
				return err
			}
			t.dropped = true
		}
		break
	}
	t.setStage(filling)
	return nil
}

// setStage sets the stage and the advice to print if the command is abandoned.
func (t *target) setStage(s stage) {
	t.stage = s
	advice := t.describeState(true, "")
	t.app.abandoned.Store(&advice)
}

func (t *target) withStoreState(err error, touched bool, count string) error {
	f := &failure{err: err}
	errors.As(err, &f)
	f.advice = t.describeState(touched, count)
	return f
}

// describeState describes the state of the store after the command, if it ends now, and how to
// continue. touched must be true if the store may have been written to. count describes how much was
// written, if known.
func (t *target) describeState(touched bool, count string) string {
	retry := "Run the command again with --replace"
	if t.add {
		retry = t.words.repeated
	}
	switch {
	case t.stage == dropping:
		return fmt.Sprintf("The content of %s may be dropped, wholly or in part. %s", t.url, retry)
	case t.stage == compared:
		return fmt.Sprintf(t.words.allStored+", and the comparison found no difference", t.url)
	case t.stage == differs:
		return fmt.Sprintf("The store %s cannot be trusted. %s", t.url, retry)
	case t.stage == stored && !t.add && t.compareAdvice != nil:
		return fmt.Sprintf(t.words.allStored+", but %s: %s. Or run the command again with --replace", t.url, t.words.uncompared, t.compareAdvice())
	case t.stage == stored:
		return fmt.Sprintf(t.words.allStored+", but %s. %s", t.url, t.words.uncompared, retry)
	case t.stage == checking || !touched && !t.dropped:
		return ""
	case !touched:
		return fmt.Sprintf("The content of %s was dropped, and nothing is stored in its place. %s", t.url, retry)
	case t.add:
		return fmt.Sprintf("The store %s now has a part of %s in addition to its earlier content. %s", t.url, t.words.appended, retry)
	case t.dropped:
		return fmt.Sprintf(t.words.afterDropped+"%s. %s", t.url, count, retry)
	}
	return fmt.Sprintf("The store %s is incomplete%s. %s", t.url, count, retry)
}
