package stage

import (
	"cmp"
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

	"github.com/go-partd/partd/internal/base/canceled"
)

// maxAttempts limits how often a run tries to load a result that other processes keep removing, and how often it starts
// again after a result has changed.
const maxAttempts = 10

// errChanged means that a result differs from the one whose hash is part of later stages' keys.
var errChanged = errors.New("the stored result changed during the run: raise its TTL, or stop the program that removes it")

// run is a call of Stage.Run, which makes attempts until no stored result changes during one.
type run struct {
	*Results
	workOf map[*node]*work
	slots  chan struct{}           // limits how many stages run at the same time
	cancel context.CancelCauseFunc // cancels all stages

	mu      sync.Mutex
	unlocks []func() error // functions that release the locks of folders in use
}

// work is the execution of a stage in an attempt of a run.
type work struct {
	*stageKey
	keyOnce, contentOnce sync.Once
	keyErr, contentErr   error

	resultOnce sync.Once
	value      any
	expires    time.Time // when results that are computed from value must expire at the latest; zero means no limit
	isLoaded   bool      // whether computeStored found and loaded another process's result
	err        error
}

// Run returns the stage's result. If the result is not stored, Run runs the stage and, before it, the
// ancestors whose results are needed but not stored. If a stage fails, Run cancels the contexts of
// the other stages and returns an [*Error] that wraps the failed function's error.
func (s *Stage[T]) Run(ctx context.Context, r *Results) (t T, err error) {
	current := &run{Results: r}
	defer func() {
		for _, unlock := range current.unlocks {
			err = errors.Join(err, unlock())
		}
	}()
	for range maxAttempts {
		var value any
		value, err = current.attempt(ctx, s.n)
		if err == nil {
			t, _ = value.(T) // if the value is nil, T is an interface, and t remains nil
		}
		if !errors.Is(err, errChanged) {
			return t, err
		}
	}
	return t, err
}

// attempt returns a pipeline's result. The error wraps errChanged if a stored result changed during the attempt.
func (r *run) attempt(ctx context.Context, last *node) (any, error) {
	stages, err := r.hashInputs(last)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.workOf = map[*node]*work{}
	r.slots = make(chan struct{}, r.parallel)
	r.cancel = cancel
	for _, k := range stages {
		// The work replaces these errors when it ends, unless the stage's function ends its goroutine.
		goexit := &Error{"run", k.name, errors.New("the function called runtime.Goexit")}
		r.workOf[k.node] = &work{stageKey: k, err: goexit, keyErr: goexit, contentErr: goexit}
	}
	w := r.result(ctx, last)
	var first *Error // the stage that failed first canceled all others
	if w.err != nil && errors.As(context.Cause(ctx), &first) {
		return nil, first
	}
	return w.value, w.err
}

// findKey computes the key of a stage, once per attempt. It runs ancestors whose results are unknown.
func (r *run) findKey(ctx context.Context, w *work) error {
	w.keyOnce.Do(func() {
		errs := make([]error, len(w.ancestors))
		var g sync.WaitGroup
		for n, a := range w.ancestors {
			g.Go(func() { errs[n] = r.findContent(ctx, r.workOf[a]) })
		}
		g.Wait()
		err := errors.Join(errs...)
		if err == nil {
			w.setKey(func(a *node) *stageKey { return r.workOf[a].stageKey })
		}
		w.keyErr = err
	})
	return w.keyErr
}

// findContent sets the content of a stage, once per attempt. It reads only the info of a stored result. It runs the
// stage only if the stage is cached and no valid result is stored.
func (r *run) findContent(ctx context.Context, w *work) error {
	w.contentOnce.Do(func() {
		err := r.findKey(ctx, w)
		if err == nil && !w.cache {
			w.content = w.contentOf(nil)
		} else if err == nil {
			var info *Info
			info, err = r.validInfo(ctx, w)
			if err == nil {
				w.content = w.contentOf(info)
			} else if errors.Is(err, fs.ErrNotExist) {
				err = r.result(ctx, w.node).err
			}
		}
		w.contentErr = wrap("cache", w, err)
	})
	return w.contentErr
}

// result loads or computes a stage's result, once per attempt. It returns the work with the result or error.
func (r *run) result(ctx context.Context, n *node) *work {
	w := r.workOf[n]
	w.resultOnce.Do(func() {
		defer func() {
			if w.err != nil {
				r.cancel(w.err)
			}
		}()
		err := r.findKey(ctx, w)
		if err == nil && n.cache {
			err = r.loadOrCompute(ctx, w)
		} else if err == nil {
			w.value, w.expires, err = r.compute(ctx, w, "")
		}
		w.err = err
	})
	return w
}

func (r *run) loadOrCompute(ctx context.Context, w *work) error {
	for range maxAttempts {
		if err := r.load(ctx, w); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return wrap("cache", w, err)
		}
		if err := r.computeStored(ctx, w); err != nil || w.isLoaded {
			return wrap("cache", w, err)
		}
	}
	return wrap("cache", w, errors.New("another program keeps removing the stored result before it can be read: raise its TTL, or stop that program"))
}

// wrap adds an operation and the stage's name to err, unless err is already an Error.
func wrap(op string, w *work, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return &Error{op, w.name, err}
}

// validInfo returns the info of a stored result. The error wraps fs.ErrNotExist if no result is stored or it has expired.
func (r *run) validInfo(ctx context.Context, w *work) (*Info, error) {
	info, err := r.backend.info(ctx, w.key)
	if err != nil {
		return nil, err
	}
	info = w.withTTL(info)
	if info == nil || info.expired(r.now()) {
		return nil, fs.ErrNotExist
	}
	return info, nil
}

// load loads a stage's stored result. The error wraps fs.ErrNotExist if no valid result is stored, and errChanged if the
// result has changed since later stages' keys were computed.
func (r *run) load(ctx context.Context, w *work) error {
	info, err := r.validInfo(ctx, w)
	if err != nil {
		return err
	}
	// Do not assign a known content again: other goroutines may be computing later stages' keys from it.
	if w.content == "" {
		w.content = w.contentOf(info)
	} else if w.content != w.contentOf(info) {
		return errChanged
	}
	w.expires = info.Expires
	if w.result == folderType {
		return r.useFolder(ctx, w, r.folder(info))
	}
	t, err := r.backend.load(ctx, w.key)
	if err != nil {
		return err
	}
	if current, err := r.validInfo(ctx, w); err != nil || !current.Created.Equal(info.Created) {
		return cmp.Or(err, errChanged) // another process has replaced the result
	}
	w.value = t
	if w.codec == nil {
		return nil
	}
	b, err := tableBytes(t)
	if err != nil {
		return err
	}
	w.value, err = w.codec.decode(b)
	return err
}

// useFolder makes the folder at path the result and locks it until the run ends, so that GC does not remove it.
func (r *run) useFolder(ctx context.Context, w *work, path string) error {
	unlock, err := r.flock(ctx, filepath.Base(path), lockMode{wait: true})
	if err != nil {
		return err
	}
	_, err = os.Stat(path)
	if err != nil {
		return errors.Join(err, unlock())
	}
	w.value = Folder(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlocks = append(r.unlocks, unlock)
	return nil
}

// computeStored computes and stores a result, unless another process has done so.
func (r *run) computeStored(ctx context.Context, w *work) (err error) {
	unlock, err := r.lock(ctx, w.key, true)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.sweep(w.key))
		}
		err = errors.Join(err, unlock())
	}()
	info, err := r.validInfo(ctx, w)
	if err == nil {
		err = r.fetch(ctx, w, info)
		if err == nil {
			return nil
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if errors.Is(err, errDamaged) { // it wraps fs.ErrNotExist
		r.log.Warn("computing a damaged result again", "stage", w.name, "key", w.key, "error", err)
	}
	folder := ""
	if w.result == folderType {
		folder, err = r.makeTemp(w.key)
		if err != nil {
			return err
		}
	}
	value, expires, err := r.compute(ctx, w, folder)
	if err != nil {
		return err
	}
	info = &Info{Key: w.key, Stage: w.name, Created: r.now().UTC(), Expires: expires, Parts: w.parts, Ancestors: w.ancestorKeys}
	t, err := r.asTable(w, value, folder)
	if err == nil && folder != "" {
		err = r.moveToFolder(info, folder)
		folder = r.folder(info)
	}
	if err == nil {
		info.Content, err = hashResult(w.parts["result"], t, folder)
	}
	if err != nil {
		return err
	}
	return r.backend.put(ctx, info, t)
}

// fetch loads a stored result. For a Folder, it only makes sure that the directory contains the files. If results
// are stored outside the directory, it unpacks the files. If data or files are missing, the error wraps fs.ErrNotExist.
func (r *run) fetch(ctx context.Context, w *work, info *Info) error {
	if w.result != folderType {
		err := r.load(ctx, w)
		w.isLoaded = err == nil
		return err
	}
	if r.local != nil {
		_, err := os.Stat(r.folder(info))
		return err
	}
	t, err := r.backend.load(ctx, w.key)
	if err != nil {
		return err
	}
	archive, err := tableBytes(t)
	if err != nil {
		return err
	}
	return r.unpack(info, archive)
}

// asTable returns the table that the backend stores for a result.
func (r *run) asTable(w *work, value any, folder string) (arrow.Table, error) {
	switch {
	case w.result == tableType && value == nil:
		return nil, errors.New("the function returned a nil table: return a table without rows instead")
	case w.result == tableType:
		return value.(arrow.Table), nil
	case w.result == folderType && value != Folder(folder):
		return nil, fmt.Errorf("the function returned the folder %q: create the files in Inputs.Dir, and return that folder", value)
	case w.result == folderType && r.local != nil:
		return bytesTable(nil), nil
	}
	encode := func(any) ([]byte, error) { return pack(folder) }
	if w.codec != nil {
		encode = w.codec.encode
	}
	b, err := encode(value)
	return bytesTable(b), err
}

// compute runs a stage with the results of its ancestors. It also returns when the result must expire. If the stage's
// key contains an ancestor's key rather than the hash of its result, that is no later than the ancestor's result.
func (r *run) compute(ctx context.Context, w *work, folder string) (value any, expires time.Time, err error) {
	var g sync.WaitGroup
	for _, a := range w.ancestors {
		g.Go(func() { r.result(ctx, a) })
	}
	g.Wait()
	in := &Inputs{files: slices.Clone(w.files), folder: folder, values: map[*node]any{}}
	for _, a := range w.ancestors {
		if err := r.workOf[a].err; err != nil {
			return nil, expires, err
		}
		in.values[a] = r.workOf[a].value
		if r.workOf[a].content == r.workOf[a].key {
			expires = earlier(expires, r.workOf[a].expires)
		}
	}
	if err := canceled.Send(ctx, r.slots, struct{}{}); err != nil {
		return nil, expires, wrap("run", w, err)
	}
	defer func() { <-r.slots }()
	if w.ttl > 0 {
		expires = earlier(expires, r.now().Add(w.ttl).UTC())
	}
	value, err = w.run(ctx, in)
	if err == nil {
		err = w.checkUnchanged()
	}
	return value, expires, wrap("run", w, err)
}

// earlier returns the earlier of two expiry times. A zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
