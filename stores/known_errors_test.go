package stores_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
	"github.com/go-partd/partd/shards"
)

// TestErrorsNameTheirStore checks that errors name the store: its directory, or else its kind.
func TestErrorsNameTheirStore(t *testing.T) {
	canceledCtx, cancel := context.WithCancel(t.Context())
	cancel()
	entry := partd.Entry{Key: "a", Value: []byte("1")}
	dict := partd.NewDict()
	buffer := must.Get(partd.NewBuffer(partd.NewDict(), partd.NewDict(), nil))(t)
	defer buffer.Close()
	layer := must.Get(compress.New(partd.NewDict(), compress.Zstd, nil))(t)
	dir := t.TempDir()
	file := must.Get(partd.OpenFile(dir, nil))(t)
	defer file.Close()
	_, fileErr := file.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	closedDict := partd.NewDict()
	_, sessionErr := dict.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	must.Do(t, closedDict.Close())
	_, closedErr := closedDict.Get(t.Context(), "a")
	_, zeroErr := new(partd.Buffer).Get(t.Context(), "a")
	var damagedErr error
	if err := layer.Unwrap().Append(t.Context(), entry); err == nil {
		_, damagedErr = layer.Get(t.Context(), "a")
	}
	for _, c := range []struct {
		store string
		err   error
	}{
		{"Dict", dict.Append(canceledCtx, entry)},
		{"Dict", dict.Drop(canceledCtx)},
		{"Dict", closedErr},
		{"Dict", sessionErr},
		{dir, file.Append(canceledCtx, entry)},
		{dir, fileErr},
		{"Buffer", buffer.Append(canceledCtx, entry)},
		{"Buffer", buffer.Drop(canceledCtx)},
		{"Buffer", zeroErr},
		{"zstd layer", layer.Append(canceledCtx, entry)},
		{"zstd layer", damagedErr},
		{"layer", new(compress.Store).Append(t.Context(), entry)},
	} {
		var e *partd.Error
		if !errors.As(c.err, &e) || e.Path != c.store || !strings.Contains(c.err.Error(), c.store) {
			t.Errorf("the error of a store does not name %s as its path: %v", c.store, c.err)
		}
	}
}

// TestZeroValuesOfAllPackages checks that methods of zero values return errors and do not panic.
func TestZeroValuesOfAllPackages(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Dict": new(partd.Dict), "File": new(partd.File), "Buffer": new(partd.Buffer),
		"logstore.Store": new(logstore.Store), "compress.Store": new(compress.Store),
		"encode.Store": new(encode.Store[int]), "encode.New(nil, nil)": encode.New(nil, encode.ValueCodec[int]{}),
		"encode.New(Dict, zero)": encode.New(partd.NewDict(), encode.ValueCodec[int]{}), "encode.NumPy": new(encode.NumPy[float64]),
		"encode.NewNumPy(nil)": encode.NewNumPy[float64](nil), "encode.PandasColumns": new(encode.PandasColumns), "encode.NewPandasColumns(nil)": encode.NewPandasColumns(nil, nil), "remote.Client": new(remote.Client), "shards.Shards": new(shards.Shards),
		"remote.Server": new(remote.Server), "tokens.Users": new(tokens.Users), "tokens.Grant": tokens.Grant{}, "blosc.Decoder": new(blosc.Decoder), "blosc.Encoder": new(blosc.Encoder),
		"Error": new(partd.Error), "CorruptError": new(partd.CorruptError), "encode.DecodeError": new(encode.DecodeError), "encode.PopError": new(encode.PopError),
		"encode.Range": encode.Range{}, "encode.DataFrame": encode.DataFrame{},
	}, "*")
}

func TestNilStore(t *testing.T) {
	ctx := t.Context()
	errOnly := func(_ any, err error) error { return err }
	storetest.CheckErrors(t, map[string]func() error{
		"Apply":    func() error { return errOnly(partd.Apply(ctx, nil, partd.Tag{}, partd.Operation{})) },
		"Check":    func() error { return errOnly(partd.Check(ctx, nil)) },
		"Close":    func() error { return partd.Close(ctx, nil) },
		"Copy":     func() error { return errOnly(partd.Copy(ctx, partd.NewDict(), nil, nil)) },
		"Copy to":  func() error { return errOnly(partd.Copy(ctx, nil, partd.NewDict(), nil)) },
		"Delete":   func() error { return partd.Delete(ctx, nil, "a") },
		"Flush":    func() error { return partd.Flush(ctx, nil) },
		"Has":      func() error { return errOnly(partd.Has(ctx, nil, "a")) },
		"Keys":     func() error { return storetest.FirstError(partd.Keys(ctx, nil)) },
		"Open":     func() error { return errOnly(partd.Open(ctx, nil, "a")) },
		"Pop":      func() error { return errOnly(partd.Pop(ctx, nil, "a")) },
		"Scan":     func() error { return storetest.FirstError(partd.Scan(ctx, nil)) },
		"ScanPart": func() error { return storetest.FirstError(partd.ScanPart(ctx, nil, 0, 2)) },
		"Set":      func() error { return partd.Set(ctx, nil, "a", nil) },
		"SetOnce":  func() error { return partd.SetOnce(ctx, nil, "a", nil) },
		"Stat":     func() error { return errOnly(partd.Stat(ctx, nil)) },
		"Sync":     func() error { return partd.Sync(ctx, nil) },

		"NewBuffer":    func() error { return errOnly(partd.NewBuffer(nil, nil, nil)) },
		"compress.New": func() error { return errOnly(compress.New(nil, compress.Zstd, nil)) },
		"NewServer":    func() error { return errOnly(remote.NewServer(nil, nil)) },
		"encode.New": func() error {
			return encode.New(nil, encode.JSON[int]()).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
		},
		"zero codec": func() error {
			return encode.New(partd.NewDict(), encode.ValueCodec[int]{}).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
		},
		"Authenticate": func() error { return errOnly(new(tokens.Users).Authenticate("a", nil)) },
	})
}

// TestZeroStores checks that a zero Dict is an empty store, and that other zero values count as closed.
func TestZeroStores(t *testing.T) {
	ctx := t.Context()
	var d partd.Dict
	must.Do(t, d.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}))
	if got, err := d.Get(ctx, "a"); err != nil || string(got[0]) != "1" {
		t.Errorf("Get(a) from a zero Dict = %q, %v, want 1", got, err)
	}
	for name, store := range map[string]partd.Partd{
		"File": new(partd.File), "Buffer": new(partd.Buffer), "logstore": new(logstore.Store),
		"compress": new(compress.Store), "remote": new(remote.Client), "shards": new(shards.Shards),
	} {
		_, getErr := store.Get(ctx, "a")
		for op, err := range map[string]error{"append": store.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}), "get": getErr, "drop": store.Drop(ctx)} {
			if !errors.Is(err, partd.ErrClosed) {
				t.Errorf("%s of a zero %s: error %v, want ErrClosed", op, name, err)
			}
		}
	}
}
