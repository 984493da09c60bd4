package partdtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/storekit"
)

// hexLayer stores values as hexadecimal digits.
type hexLayer struct{ storekit.Layer }

func newHexLayer(store partd.Partd) *hexLayer {
	return &hexLayer{storekit.NewLayer(store, storekit.Hooks{
		Name: "hex",
		In: func(_ context.Context, _ string, dst, value []byte) ([]byte, error) {
			return hex.AppendEncode(dst, value), nil
		},
		Out: func(_ context.Context, _ string, stored io.Reader) io.Reader { return hex.NewDecoder(stored) },
	})}
}

// declining is a layer that declines one ability.
type declining struct {
	*hexLayer
	ability Ability
}

// unless calls f unless the layer declines the ability a.
func unless[T any](d declining, a Ability, f func() (T, error)) (T, error) {
	if d.ability == a {
		return *new(T), &partd.Error{Op: string(a), Err: errors.ErrUnsupported}
	}
	return f()
}

func unlessErr(d declining, a Ability, f func() error) error {
	_, err := unless(d, a, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func unlessSeq[T any](d declining, a Ability, items iter.Seq2[T, error]) iter.Seq2[T, error] {
	if _, err := unless(d, a, func() (T, error) { return *new(T), nil }); err != nil {
		return func(yield func(T, error) bool) { yield(*new(T), err) }
	}
	return items
}

func (d declining) Set(ctx context.Context, key string, value []byte) error {
	return unlessErr(d, CanSet, func() error { return d.hexLayer.Set(ctx, key, value) })
}

func (d declining) SetOnce(ctx context.Context, key string, value []byte) error {
	return unlessErr(d, CanSet, func() error { return d.hexLayer.SetOnce(ctx, key, value) })
}

func (d declining) Delete(ctx context.Context, keys ...string) error {
	return unlessErr(d, CanDelete, func() error { return d.hexLayer.Delete(ctx, keys...) })
}

func (d declining) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	return unless(d, CanPop, func() ([][]byte, error) { return d.hexLayer.Pop(ctx, keys...) })
}

func (d declining) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return unlessSeq(d, CanList, d.hexLayer.Keys(ctx))
}

func (d declining) HasKey(ctx context.Context, key string) (bool, error) {
	return unless(d, CanHas, func() (bool, error) { return d.hexLayer.HasKey(ctx, key) })
}

func (d declining) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return unless(d, CanOpen, func() (io.ReadCloser, error) { return d.hexLayer.Open(ctx, key) })
}

func (d declining) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return unlessSeq(d, CanScan, d.hexLayer.Scan(ctx))
}

func (d declining) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return unlessSeq(d, CanScan, d.hexLayer.ScanPart(ctx, part, parts))
}

func (d declining) Stat(ctx context.Context) (partd.Stats, error) {
	return unless(d, CanStat, func() (partd.Stats, error) { return d.hexLayer.Stat(ctx) })
}

func (d declining) Flush(ctx context.Context) error {
	return unlessErr(d, CanFlush, func() error { return d.hexLayer.Flush(ctx) })
}

func (d declining) Sync(ctx context.Context) error {
	return unlessErr(d, CanSync, func() error { return d.hexLayer.Sync(ctx) })
}

func (d declining) NewSession(ctx context.Context) (uint64, error) {
	return unless(d, CanApply, func() (uint64, error) { return d.hexLayer.NewSession(ctx) })
}

func (d declining) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	return unless(d, CanApply, func() (bool, error) { return d.hexLayer.Apply(ctx, tag, op) })
}

func (d declining) Close() error { return unlessErr(d, CanClose, d.hexLayer.Close) }

// TestLayerDeclinesEachAbility runs the state machine with a layer that declines each ability in turn. Where partd has
// another way, it must be as good as the method; otherwise, the ability must be missing.
func TestLayerDeclinesEachAbility(t *testing.T) {
	for _, ability := range allAbilities {
		t.Run(string(ability), func(t *testing.T) {
			StateMachine(t, func(t *testing.T) partd.Partd {
				file := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
				return declining{newHexLayer(file), ability}
			}, &Options{Without: []Ability{ability, CanFlush}, MachineRuns: 3})
		})
	}
	store := declining{newHexLayer(partd.NewDict()), CanHas}
	if exists, err := partd.Has(t.Context(), store, "k"); exists || err != nil {
		t.Errorf("Has of a missing key with a layer that declines it = %v, %v, want false", exists, err)
	}
	if err := partd.Flush(t.Context(), store); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Flush over a Dict = %v, want ErrUnsupported", fmt.Sprint(err))
	}
}
