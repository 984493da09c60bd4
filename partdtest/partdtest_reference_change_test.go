package partdtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
		r.disk.mu.Unlock()
		pause()
		r.disk.mu.Lock()
	case r.fault == "Set appends":
		value = append(slices.Clip(r.disk.values[r.name(key)]), value...)
	case r.fault == "Set to empty deletes" && len(value) == 0:
		delete(r.disk.values, r.name(key))
		return nil
	case r.fault == "Set is torn":
		r.disk.values[r.name(key)] = bytes.Clone(value[:len(value)/2])
		r.disk.mu.Unlock()
		pause()
		r.disk.mu.Lock()
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
		r.disk.mu.Unlock()
		pause()
		r.disk.mu.Lock()
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
