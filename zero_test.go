package partd_test

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/zerovalues"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
	"github.com/go-partd/partd/shards"
)

// TestZeroValues checks that methods of zero values return errors and do not panic.
func TestZeroValues(t *testing.T) {
	zerovalues.Check(t, map[string]any{
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
	zerovalues.CheckErrors(t, map[string]func() error{
		"Apply":    func() error { return errOnly(partd.Apply(ctx, nil, partd.Tag{}, partd.Operation{})) },
		"Check":    func() error { return errOnly(partd.Check(ctx, nil)) },
		"Close":    func() error { return partd.Close(ctx, nil) },
		"Copy":     func() error { return errOnly(partd.Copy(ctx, partd.NewDict(), nil, nil)) },
		"Copy to":  func() error { return errOnly(partd.Copy(ctx, nil, partd.NewDict(), nil)) },
		"Delete":   func() error { return partd.Delete(ctx, nil, "a") },
		"Flush":    func() error { return partd.Flush(ctx, nil) },
		"Has":      func() error { return errOnly(partd.Has(ctx, nil, "a")) },
		"Keys":     func() error { return zerovalues.FirstError(partd.Keys(ctx, nil)) },
		"Open":     func() error { return errOnly(partd.Open(ctx, nil, "a")) },
		"Pop":      func() error { return errOnly(partd.Pop(ctx, nil, "a")) },
		"Scan":     func() error { return zerovalues.FirstError(partd.Scan(ctx, nil)) },
		"ScanPart": func() error { return zerovalues.FirstError(partd.ScanPart(ctx, nil, 0, 2)) },
		"Set":      func() error { return partd.Set(ctx, nil, "a", nil) },
		"SetOnce":  func() error { return partd.SetOnce(ctx, nil, "a", nil) },
		"Stat":     func() error { return errOnly(partd.Stat(ctx, nil)) },
		"Sync":     func() error { return partd.Sync(ctx, nil) },
	})
}

// TestNilArguments checks that a zero Dict is an empty store, and that zero values and nil arguments cause errors.
func TestNilArguments(t *testing.T) {
	ctx := t.Context()
	var d partd.Dict
	if err := d.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
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
	_, buffer := partd.NewBuffer(nil, nil, nil)
	_, layer := compress.New(nil, compress.Zstd, nil)
	_, server := remote.NewServer(nil, nil)
	_, noShards := shards.New(nil, nil)
	_, shard := shards.New([]string{"a"}, []partd.Partd{nil})
	values := encode.New(nil, encode.JSON[int]()).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
	codec := encode.New(partd.NewDict(), encode.ValueCodec[int]{}).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
	_, unknownUser := new(tokens.Users).Authenticate("a", nil)
	for name, err := range map[string]error{"NewBuffer(nil)": buffer, "Authenticate": unknownUser, "compress.New(nil)": layer, "NewServer(nil)": server, "shards.New(nil)": noShards, "nil shard": shard, "encode.New(nil)": values, "zero codec": codec} {
		if err == nil {
			t.Errorf("%s: no error for a nil argument or zero value", name)
		}
	}
}
