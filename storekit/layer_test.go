package storekit_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/storekit"
)

// hexLayer stores values as hexadecimal digits.
type hexLayer struct{ storekit.Layer }

func newHexLayer(store partd.Partd) *hexLayer {
	return &hexLayer{storekit.NewLayer(store, storekit.Hooks{
		Name: "hex",
		In: func(_ context.Context, key string, dst, value []byte) ([]byte, error) {
			if strings.HasPrefix(key, "refused") {
				return nil, errRefused
			}
			return hex.AppendEncode(dst, value), nil
		},
		Out: func(_ context.Context, _ string, stored io.Reader) io.Reader { return hex.NewDecoder(stored) },
	})}
}

var errRefused = errors.New("refused")

// TestLayersKeepPromises runs the conformance suite on a layer that transforms values, on one that counts them, and on
// one without hooks.
func TestLayersKeepPromises(t *testing.T) {
	openLog := func(t *testing.T) partd.Partd {
		return must.Get(logstore.Open(t.TempDir(), &logstore.Options{Memory: logstore.MinMemory}))(t)
	}
	all := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanHas, partdtest.CanOpen, partdtest.CanScan,
		partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanApply, partdtest.CanClose,
	}
	for name, open := range map[string]func(t *testing.T) partd.Partd{
		"transforms": func(t *testing.T) partd.Partd { return newHexLayer(openLog(t)) },
		"counts":     func(t *testing.T) partd.Partd { return newMeter(openLog(t)) },
		"no hooks": func(t *testing.T) partd.Partd {
			return &hexLayer{storekit.NewLayer(openLog(t), storekit.Hooks{Name: "nothing"})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run := partdtest.StateMachine
			if name == "transforms" {
				run = partdtest.Run
			}
			// The tests of logstore scan more parts of the store under the layer.
			run(t, open, &partdtest.Options{Require: all, LargeValue: 300 << 10, Pieces: 40, MachineRuns: 5, Parts: 2000})
		})
	}
}

// TestHooksSeeEveryByte checks that each way of writing passes all bytes through In, and each way of reading through
// Out, and that no other operation does.
func TestHooksSeeEveryByte(t *testing.T) {
	ctx := t.Context()
	dict := partd.NewDict()
	m := newMeter(newHexLayer(dict))
	value := bytes.Repeat([]byte("0123456789"), 20_000) // more than a window
	entry := partd.Entry{Key: "k", Value: value}
	session := must.Get(m.NewSession(ctx))(t)
	apply := func(number uint64, op partd.Operation) error {
		_, err := partd.Apply(ctx, m, partd.Tag{Session: session, Number: number}, op)
		return err
	}
	scan := func(parts int) (err error) {
		for part := range parts {
			for _, chunkErr := range partd.ScanPart(ctx, m, part, parts) {
				err = errors.Join(err, chunkErr)
			}
		}
		return err
	}
	const n = 200_000
	for _, step := range []struct {
		name          string
		do            func() error
		written, read int64
	}{
		{"Append", func() error { return m.Append(ctx, entry, entry) }, 2 * n, 0},
		{"Set", func() error { return partd.Set(ctx, m, "k", value) }, n, 0},
		{"SetOnce", func() error { return partd.SetOnce(ctx, m, "once", value) }, n, 0},
		{"Apply of an append", func() error { return apply(1, partd.Operation{Entries: []partd.Entry{entry}}) }, n, 0},
		{"Apply of a set", func() error {
			return apply(2, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{entry}})
		}, n, 0},
		{"Get", func() error { _, err := m.Get(ctx, "k", "once"); return err }, 0, 2 * n},
		{"Open", func() error {
			r, err := partd.Open(ctx, m, "k")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		}, 0, n},
		{"Scan", func() error { return scan(1) }, 0, 2 * n},
		{"ScanPart", func() error { return scan(3) }, 0, 2 * n},
		{"Copy", func() error { _, err := partd.Copy(ctx, partd.NewDict(), m, nil); return err }, 0, 2 * n},
		{"Has, Stat, Keys, Flush, Sync", func() error {
			_, hasErr := partd.Has(ctx, m, "k")
			_, statErr := partd.Stat(ctx, m)
			for _, keysErr := range partd.Keys(ctx, m) {
				hasErr = errors.Join(hasErr, keysErr)
			}
			if errors.Is(partd.Flush(ctx, m), errors.ErrUnsupported) && errors.Is(partd.Sync(ctx, m), errors.ErrUnsupported) {
				return errors.Join(hasErr, statErr)
			}
			return errors.New("Flush or Sync works")
		}, 0, 0},
		{"Pop", func() error { _, err := partd.Pop(ctx, m, "k"); return err }, 0, n},
		{"Delete, Drop", func() error {
			return errors.Join(partd.Delete(ctx, m, "once"), m.Drop(ctx), apply(3, partd.Operation{Change: partd.ChangeDrop}))
		}, 0, 0},
	} {
		m.written.Store(0)
		m.read.Store(0)
		if err := step.do(); err != nil || m.written.Load() != step.written || m.read.Load() != step.read {
			t.Errorf("%s: %d bytes written and %d read, error %v; want %d and %d", step.name, m.written.Load(), m.read.Load(), err, step.written, step.read)
		}
		if step.name != "SetOnce" {
			continue
		}
		stored, err := dict.Get(ctx, "k")
		if err != nil || hex.EncodeToString(value) != string(stored[0]) {
			t.Errorf("the Dict has %d bytes, %v, want the hexadecimal digits of the value", len(stored[0]), err)
		}
	}
}

// TestErrorsOfHooks checks that errors of hooks name the operation, the key and the layer, that an error of In stores
// nothing, and that an error of Out makes Pop remove nothing.
func TestErrorsOfHooks(t *testing.T) {
	ctx := t.Context()
	dict := partd.NewDict()
	l := newHexLayer(dict)
	check := func(op string, err error, wrapped error) {
		t.Helper()
		if want := "partd: " + op + ` key "`; err == nil || !errors.Is(err, wrapped) || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), " hex layer: ") {
			t.Errorf("the error of %s is %v, want one that names the operation, the key and the layer", op, err)
		}
	}
	check("append", l.Append(ctx, partd.Entry{Key: "good", Value: []byte("1")}, partd.Entry{Key: "refused"}), errRefused)
	check("set", l.Set(ctx, "refused", nil), errRefused)
	if st, err := dict.Stat(ctx); err != nil || st.Keys != 0 {
		t.Errorf("after errors of In, the store has %d keys, %v, want none", st.Keys, err)
	}
	must.Do(t, dict.Append(ctx, partd.Entry{Key: "bad", Value: []byte("61626")}))
	_, err := l.Get(ctx, "bad")
	check("get", err, io.ErrUnexpectedEOF)
	_, err = l.Pop(ctx, "bad")
	check("pop", err, io.ErrUnexpectedEOF)
	for _, err = range l.Scan(ctx) {
	}
	check("scan", err, io.ErrUnexpectedEOF)
	for _, err = range l.Keys(ctx) {
	}
	check("keys", err, io.ErrUnexpectedEOF)
	if values, err := dict.Get(ctx, "bad"); err != nil || string(values[0]) != "61626" {
		t.Errorf("after errors of Out, the store has %q, %v, want the value", values, err)
	}
	if _, err := new(storekit.Layer).Get(ctx, "k"); err == nil || !strings.Contains(fmt.Sprint(err), "no store beneath") {
		t.Errorf("Get of a zero Layer = %v, want an error", err)
	}
}

// TestLayerIgnoresEmptyAppends checks that an empty append creates no key and changes none, even if In adds bytes to
// every value.
func TestLayerIgnoresEmptyAppends(t *testing.T) {
	ctx := t.Context()
	dict := partd.NewDict()
	l := storekit.NewLayer(dict, storekit.Hooks{In: func(_ context.Context, _ string, dst, value []byte) ([]byte, error) {
		return append(append(append(dst, '<'), value...), '>'), nil
	}})
	session := must.Get(l.NewSession(ctx))(t)
	entries := []partd.Entry{{Key: "none"}, {Key: "k", Value: []byte("1")}, {Key: "k"}, {Key: "k", Value: []byte("2")}}
	_, applyErr := l.Apply(ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: entries})
	must.Do(t, errors.Join(applyErr, l.Append(ctx, entries...), l.Set(ctx, "set", nil)))
	values, err := dict.Get(ctx, "k", "set")
	if err != nil || string(values[0]) != "<1><2><1><2>" || string(values[1]) != "<>" {
		t.Errorf("the store has %q, %v, want <1><2><1><2> and <>", values, err)
	}
	if exists, err := dict.HasKey(ctx, "none"); exists || err != nil {
		t.Errorf("after empty appends, HasKey = %v, %v, want false", exists, err)
	}
}

type closeCounter struct {
	io.Reader
	closed *int
}

func (c closeCounter) Close() error {
	*c.closed++
	return nil
}

// TestScanClosesReaders checks that a scan closes the reader of each value once, even if the caller's loop panics.
func TestScanClosesReaders(t *testing.T) {
	closed := 0
	l := storekit.NewLayer(partd.NewDict(), storekit.Hooks{Out: func(_ context.Context, _ string, stored io.Reader) io.Reader {
		return closeCounter{stored, &closed}
	}})
	must.Do(t, l.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1")}, partd.Entry{Key: "b", Value: []byte("2")}))
	for _, err := range l.Scan(t.Context()) {
		must.Do(t, err)
	}
	if closed != 2 {
		t.Errorf("a scan of two keys closed %d readers, want 2", closed)
	}
	func() {
		defer func() { _ = recover() }()
		l.Scan(t.Context())(func(partd.Chunk, error) bool { panic("in the loop") })
	}()
	if closed != 3 {
		t.Errorf("after a panic, %d readers are closed, want 3", closed)
	}
}
