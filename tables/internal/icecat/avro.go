package icecat

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// Budget is what files of Avro may hold together.
type Budget struct {
	Entries, Bytes int64 // at most; bytes before compression
	entries, bytes int64 // so far
}

// spent is an error for more than the budget has.
func (b *Budget) spent() error {
	if b.entries <= b.Entries && b.bytes <= b.Bytes {
		return nil
	}
	return fmt.Errorf("it holds, with those before it, more entries or bytes than one commit may bring, which are %d and %d before compression: commit fewer at a time", b.Entries, b.Bytes)
}

// CheckAvro counts what a file of Avro holds, and is an error if that is beyond a budget. Of the
// file it keeps a block at a time; Iceberg's library keeps all of it, whatever it unpacks to.
func (f *FileIO) CheckAvro(ctx context.Context, name string, budget *Budget) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	budget.bytes += info.Size() // all that is not compressed
	r, err := ocf.NewReader(file,
		ocf.WithCodec(counting{ocf.DeflateCodec(-1), budget}),
		ocf.WithCodec(counting{ocf.SnappyCodec(), budget}),
		ocf.WithCodec(counting{ocf.MustZstdCodec(nil, nil), budget}),
		ocf.WithReaderSchemaFunc(func(r *ocf.Reader) (*avro.Schema, error) {
			of := r.Schema().Root()
			return avro.Parse(fmt.Sprintf(`{"type": "record", "name": %q, "namespace": %q, "fields": []}`, of.Name, of.Namespace))
		}))
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	for {
		err := cmp.Or(ctx.Err(), r.Decode(&struct{}{}))
		if err == io.EOF {
			return nil
		}
		budget.entries++
		if err = cmp.Or(err, budget.spent()); err != nil {
			return err
		}
	}
}

// counting is a codec that counts what blocks hold.
type counting struct {
	ocf.Codec
	budget *Budget
}

func (c counting) DecompressBounded(src []byte, most int64) ([]byte, error) {
	b, err := c.Codec.(ocf.BoundedDecompressor).DecompressBounded(src, most)
	c.budget.bytes += int64(len(b))
	return b, cmp.Or(err, c.budget.spent())
}
