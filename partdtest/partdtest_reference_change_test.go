package partdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

func (r *reference) Set(ctx context.Context, key string, value []byte) error {
	return r.set(ctx, key, value, false)
}

func (r *reference) SetOnce(ctx context.Context, key string, value []byte) error {
	return r.set(ctx, key, value, r.fault != "SetOnce overwrites")
}

func (r *reference) set(ctx context.Context, key string, value []byte, onlyIfMissing bool) error {
	if _, err := storekit.CheckEntries("set", []partd.Entry{{Key: key, Value: value}}); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.disk.mu.Unlock()
	if v, exists := r.disk.values[r.name(key)]; onlyIfMissing && (exists && (r.fault != "SetOnce overwrites empty values" || len(v) > 0)) {
		return nil
	}
	switch {
	case onlyIfMissing && r.fault == "SetOnce races":
		r.letOthersRun()
	case r.fault == "Set appends":
		value = append(slices.Clip(r.disk.values[r.name(key)]), value...)
	case r.fault == "Set to empty deletes" && len(value) == 0:
		delete(r.disk.values, r.name(key))
		return nil
	case r.fault == "Set is torn":
		r.disk.values[r.name(key)] = bytes.Clone(value[:len(value)/2])
		r.letOthersRun()
	}
	r.disk.values[r.name(key)] = append([]byte{}, value...)
	return nil
}

func (r *reference) Delete(ctx context.Context, keys ...string) error {
	if err := storekit.CheckKeys("delete", keys); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.disk.mu.Unlock()
	for _, k := range keys {
		if _, ok := r.disk.values[r.name(k)]; !ok && r.fault == "Delete of a missing key fails" {
			return fmt.Errorf("no key %q", k)
		}
		delete(r.disk.values, r.name(k))
		if r.fault == "Delete also removes the next key" {
			delete(r.disk.values, r.name(k)+"/b")
		}
	}
	return nil
}

func (r *reference) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.disk.mu.Unlock()
	values := r.get(keys)
	if r.fault == "Pop races" {
		r.letOthersRun()
	}
	for _, k := range keys {
		if r.fault != "Pop leaves the key" {
			delete(r.disk.values, r.name(k))
		}
	}
	return values, nil
}

func (r *reference) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if r.fault == "Open reads later" {
		return &lateReader{r: r, key: key}, nil
	}
	values, err := r.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(values[0])), nil
}

// lateReader reads the value that the key has at the time of each Read, not of Open.
type lateReader struct {
	r      *reference
	key    string
	offset int
}

func (l *lateReader) Read(p []byte) (int, error) {
	values, err := l.r.Get(context.Background(), l.key)
	if err != nil || l.offset >= len(values[0]) {
		return 0, io.EOF
	}
	n := copy(p, values[0][l.offset:])
	l.offset += n
	return n, nil
}

func (l *lateReader) Close() error { return nil }

// sessions is the part of a disk that records sessions.
type sessions struct {
	issued uint64               // the last session that was issued
	last   map[uint64]partd.Tag // tag of each session's last operation
}

func (r *reference) NewSession(ctx context.Context) (uint64, error) {
	if err := r.begin(ctx); err != nil {
		return 0, err
	}
	defer r.disk.mu.Unlock()
	s := &r.disk.sessions
	if s.last == nil {
		s.last = map[uint64]partd.Tag{}
		s.issued = 1 << 40
	}
	if r.fault != "issues a session twice" || s.issued&1 == 0 {
		s.issued++
	}
	s.last[s.issued] = partd.Tag{}
	return s.issued, nil
}

func (r *reference) EndSession(ctx context.Context, session uint64) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.disk.mu.Unlock()
	if r.fault != "EndSession does nothing" {
		delete(r.disk.sessions.last, session)
	}
	return nil
}

func (r *reference) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	if tag.Session == 0 || tag.Number == 0 {
		return false, errors.New("sessions and operations are numbered from 1")
	}
	r.disk.applying.Lock()
	defer r.disk.applying.Unlock()
	r.disk.mu.Lock()
	last, known := r.disk.sessions.last[tag.Session]
	r.disk.mu.Unlock()
	switch {
	case r.fault == "accepts a forgotten session" && !known:
	case !known:
		return false, partd.ErrSessionExpired
	case r.fault == "applies again":
	case tag.Number > last.Number+1 && r.fault != "accepts a gap":
		return false, partd.ErrSessionGap
	case tag.Number == last.Number && tag.CRC != last.CRC && r.fault != "accepts a reused number":
		return false, partd.ErrSessionReused
	case tag.Number <= last.Number:
		return false, nil
	}
	if r.fault == "Apply races" {
		r.disk.applying.Unlock()
		pause()
		defer r.disk.applying.Lock()
	}
	recordTag := func() {
		r.disk.mu.Lock()
		defer r.disk.mu.Unlock()
		if r.disk.sessions.last != nil {
			r.disk.sessions.last[tag.Session] = tag
		}
	}
	if r.fault == "rejected operations use up their number" {
		recordTag()
	}
	if err := r.apply(ctx, op); err != nil {
		return false, err
	}
	if r.fault != "Drop forgets sessions" || op.Change != partd.ChangeDrop {
		recordTag()
	}
	return true, nil
}

func (r *reference) apply(ctx context.Context, op partd.Operation) error {
	if isSet := op.Change == partd.ChangeSet || op.Change == partd.ChangeSetOnce; isSet && len(op.Entries) != 1 {
		return fmt.Errorf("a set needs one entry, got %d", len(op.Entries))
	}
	switch op.Change {
	case partd.ChangeAppend:
		return r.Append(ctx, op.Entries...)
	case partd.ChangeSet:
		return r.Set(ctx, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeSetOnce:
		return r.SetOnce(ctx, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeDelete:
		return r.Delete(ctx, op.Keys...)
	case partd.ChangeDrop:
		return r.Drop(ctx)
	}
	return fmt.Errorf("unknown change %d", op.Change)
}

func (s sessions) reopened(fault string) sessions {
	switch fault {
	case "forgets sessions on reopen":
		return sessions{}
	case "forgets numbers on reopen":
		s.last = maps.Clone(s.last)
		for id := range s.last {
			s.last[id] = partd.Tag{}
		}
	}
	return s
}
