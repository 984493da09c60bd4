package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/progress"
)

// target is the store that a command fills, and its state.
type target struct {
	app          *app
	url          string
	add, replace bool
	words        targetWords
	stage        stage
	dropped      bool          // the earlier content was dropped
	compareBy    func() string // returns how to compare the content by hand, nil if that is impossible
}

// targetWords are a command's words for its messages.
type targetWords struct {
	store        string // the store that the command fills
	duplicated   string // what running the command again would duplicate
	allAre       string // subject and verb, as in "All records are" stored in …
	uncompared   string // end of "All records are stored in …, but …"
	appended     string // what the command appends, as in "these records"
	afterDropped string // format of a sentence about a store after its content was dropped
}

// stage is the progress of a command.
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
// keys in bottom. check checks a store with keys before it is changed.
func (t *target) prepare(ctx context.Context, bar *progress.Bar, store, bottom partd.Partd, check func() error) error {
	for _, err := range partd.Keys(ctx, bottom) {
		if err == nil && !t.add && !t.replace {
			err = fmt.Errorf("the store %s already has keys: use --append to add to them, or --replace to drop them first", t.url)
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
					t.setStage(checking) // the server refused before it changed anything
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

// setStage sets the stage, and the advice to print if the command is abandoned.
func (t *target) setStage(s stage) {
	t.stage = s
	advice := t.describeState(true, "")
	t.app.abandoned.Store(&advice)
}

// withStoreState adds the state of the store and advice on how to continue to an error.
func (t *target) withStoreState(err error, touched bool, count string) error {
	f := &failure{err: err}
	errors.As(err, &f)
	f.advice = t.describeState(touched, count)
	return f
}

// describeState describes the state in which the store would be if the command ended now, and how
// to continue. touched means that the store may have been written to. count describes how much was
// written, if known.
func (t *target) describeState(touched bool, count string) string {
	retry := "Run the command again with --replace"
	if t.add {
		retry = "Running the command again would duplicate " + t.words.duplicated
	}
	switch {
	case t.stage == dropping:
		return fmt.Sprintf("The content of %s may be dropped, wholly or in part. %s", t.url, retry)
	case t.stage == compared:
		return fmt.Sprintf("%s stored in %s, and the comparison found no difference", t.words.allAre, t.url)
	case t.stage == differs:
		return fmt.Sprintf("The store %s cannot be trusted. %s", t.url, retry)
	case t.stage == stored && !t.add && t.compareBy != nil:
		return fmt.Sprintf("%s stored in %s, but %s: %s. Or run the command again with --replace", t.words.allAre, t.url, t.words.uncompared, t.compareBy())
	case t.stage == stored:
		return fmt.Sprintf("%s stored in %s, but %s. %s", t.words.allAre, t.url, t.words.uncompared, retry)
	case t.stage == checking || !touched && !t.dropped:
		return ""
	case !touched:
		return fmt.Sprintf("The content of %s was dropped, and nothing is stored in its place. %s", t.url, retry)
	case t.add:
		return fmt.Sprintf("The store %s now has a part of %s in addition to its earlier content. %s", t.url, t.words.appended, retry)
	case t.dropped:
		return fmt.Sprintf(t.words.afterDropped+" incomplete%s. %s", t.url, count, retry)
	}
	return fmt.Sprintf("The store %s is incomplete%s. %s", t.url, count, retry)
}
