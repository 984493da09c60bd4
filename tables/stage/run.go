package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/canceled"
)

// attempts is how often a result is asked for that goes while it is loaded.
const attempts = 10

// run is one run of a pipeline.
type run struct {
	*Results
	works map[*node]*work
	slots chan struct{}
	fail  context.CancelCauseFunc // ends all stages

	mu      sync.Mutex
	unlocks []func() error // of folders that are used
}

// work is a stage in a run.
type work struct {
	*keyed
	once    sync.Once
	value   any
	expires time.Time // when what is made of value expires; zero: never
	loaded  bool      // by make, which found what others had made meanwhile
	err     error
}

// Run returns the stage's result, from storage or by running the stage. It runs ancestors
// only if their results are needed and not stored. If a stage fails, Run cancels the
// context of the others and returns an [*Error], which wraps what the stage's function
// returned.
func (s *Stage[T]) Run(ctx context.Context, r *Results) (t T, err error) {
	stages, err := r.keysOf(s.n)
	if err != nil {
		return t, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	x := &run{Results: r, works: map[*node]*work{}, slots: make(chan struct{}, r.parallel), fail: fail}
	for _, k := range stages {
		x.works[k.node] = &work{keyed: k, err: &Error{"run", k.name, errors.New("it ended its goroutine")}}
	}
	defer func() {
		for _, unlock := range x.unlocks {
			err = errors.Join(err, unlock())
		}
	}()
	w := x.result(ctx, s.n)
	if w.err != nil {
		var first *Error // the others were cancelled for it
		if errors.As(context.Cause(ctx), &first) {
			return t, first
		}
		return t, w.err
	}
	t, _ = w.value.(T) // nil, where T is an interface
	return t, nil
}

// result returns a stage's work once it is done.
func (x *run) result(ctx context.Context, n *node) *work {
	w := x.works[n]
	w.once.Do(func() {
		defer func() {
			if w.err != nil {
				x.fail(w.err)
			}
		}()
		var err error
		if n.cache {
			err = x.kept(ctx, w)
		} else {
			w.value, w.expires, err = x.compute(ctx, w, "")
		}
		w.err = err
	})
	return w
}

// kept takes what is kept, and makes it first where it is not.
func (x *run) kept(ctx context.Context, w *work) error {
	for range attempts {
		if err := x.load(ctx, w); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return wrap("keep", w, err)
		}
		if err := x.make(ctx, w); err != nil || w.loaded {
			return wrap("keep", w, err)
		}
	}
	return wrap("keep", w, errors.New("what is kept is gone again and again: is its TTL shorter than reading it takes, or another program removing it?"))
}

// wrap says which stage failed, unless that is said.
func wrap(op string, w *work, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return &Error{op, w.name, err}
}

// valid returns the info of a result that counts, or an error that wraps fs.ErrNotExist.
func (x *run) valid(ctx context.Context, w *work) (*Info, error) {
	i, err := x.keep.info(ctx, w.key)
	if err != nil {
		return nil, err
	}
	if i = w.counted(i); i == nil || i.expired(x.now()) {
		return nil, fs.ErrNotExist
	}
	return i, nil
}

// load takes a result that is kept.
func (x *run) load(ctx context.Context, w *work) error {
	if w.result == folderType {
		return x.loadFolder(ctx, w)
	}
	i, err := x.valid(ctx, w)
	if err != nil {
		return err
	}
	w.expires = i.Expires
	t, err := x.keep.load(ctx, w.key)
	if err != nil || w.codec == nil {
		w.value = t
		return err
	}
	b, err := bytesOf(t)
	if err == nil {
		w.value, err = w.codec.decode(b)
	}
	return err
}

// loadFolder takes files, which nobody removes while this run lasts.
func (x *run) loadFolder(ctx context.Context, w *work) error {
	i, err := x.valid(ctx, w)
	if err != nil {
		return err
	}
	unlock, err := x.flock(ctx, filepath.Base(x.folder(i)), false, true)
	if err != nil {
		return err
	}
	if _, err = os.Stat(x.folder(i)); err != nil {
		return errors.Join(err, unlock())
	}
	w.value, w.expires = Folder(x.folder(i)), i.Expires
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unlocks = append(x.unlocks, unlock)
	return nil
}

// make computes a result and keeps it, unless somebody else did meanwhile.
func (x *run) make(ctx context.Context, w *work) (err error) {
	unlock, err := x.lock(ctx, w.key, true)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.sweep(w.key))
		}
		err = errors.Join(err, unlock())
	}()
	i, err := x.valid(ctx, w)
	if err == nil {
		if err = x.fetch(ctx, w, i); err == nil {
			return nil
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder := ""
	if w.result == folderType {
		if folder, err = x.temp(w.key); err != nil {
			return err
		}
	}
	value, expires, err := x.compute(ctx, w, folder)
	if err != nil {
		return err
	}
	i = &Info{Key: w.key, Stage: w.name, Made: x.now().UTC(), Expires: expires, Parts: w.parts, Needs: w.needs}
	t, err := x.packed(w, value, folder)
	if err == nil && folder != "" {
		err = x.place(i, folder)
	}
	if err != nil {
		return err
	}
	return x.keep.put(ctx, i, t)
}

// fetch loads what is kept, and copies files that are kept elsewhere. Where an info is left
// alone, of which the data or the files of the directory are gone, the error wraps
// fs.ErrNotExist.
func (x *run) fetch(ctx context.Context, w *work, i *Info) error {
	if w.result != folderType {
		err := x.load(ctx, w)
		w.loaded = err == nil
		return err
	}
	if x.local != nil {
		_, err := os.Stat(x.folder(i))
		return err
	}
	t, err := x.keep.load(ctx, w.key)
	if err != nil {
		return err
	}
	archive, err := bytesOf(t)
	if err != nil {
		return err
	}
	return x.unpack(i, archive)
}

// packed makes of what a stage returned the table that is kept.
func (x *run) packed(w *work, value any, folder string) (arrow.Table, error) {
	switch {
	case w.result == tableType && value == nil:
		return nil, errors.New("it returned no table: return one without rows")
	case w.result == tableType:
		return value.(arrow.Table), nil
	case w.result == folderType && value != Folder(folder):
		return nil, fmt.Errorf("it returned the folder %q: make the files in Inputs.Dir, and return that", value)
	case w.result == folderType && x.local != nil:
		return bytesTable(nil), nil
	}
	encode := func(any) ([]byte, error) { return pack(folder) }
	if w.codec != nil {
		encode = w.codec.encode
	}
	b, err := encode(value)
	return bytesTable(b), err
}

// compute runs a stage on the results of its ancestors. What it makes expires with the
// first of them.
func (x *run) compute(ctx context.Context, w *work, folder string) (value any, expires time.Time, err error) {
	var g sync.WaitGroup
	for _, a := range w.above {
		g.Go(func() { x.result(ctx, a) })
	}
	g.Wait()
	in := &Inputs{files: slices.Clone(w.files), folder: folder, values: map[*node]any{}}
	for _, a := range w.above {
		if err := x.works[a].err; err != nil {
			return nil, expires, err
		}
		in.values[a] = x.works[a].value
		expires = earlier(expires, x.works[a].expires)
	}
	select {
	case <-ctx.Done():
		return nil, expires, wrap("run", w, canceled.Err(ctx))
	case x.slots <- struct{}{}:
	}
	defer func() { <-x.slots }()
	if w.ttl > 0 {
		expires = earlier(expires, x.now().Add(w.ttl).UTC())
	}
	if value, err = w.run(ctx, in); err == nil {
		err = w.unchanged()
	}
	return value, expires, wrap("run", w, err)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
