package icecat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// Room is what files of Avro may hold together: entries, and bytes before compression.
type Room struct{ Entries, Bytes int64 }

func (r *Room) full() bool { return r.Entries < 0 || r.Bytes < 0 }

var errFull = errors.New("it holds, with those before it, more entries or bytes than one commit may bring")

// CheckAvro takes what a file of Avro holds off the room, and is an error if it holds more. Of the
// file it keeps a block at a time; Iceberg's library keeps all of it, whatever it unpacks to.
func (f *FileIO) CheckAvro(ctx context.Context, name string, room *Room) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	room.Bytes -= info.Size() // all that is not compressed
	r, err := ocf.NewReader(file,
		ocf.WithCodec(counting{ocf.DeflateCodec(-1), room}),
		ocf.WithCodec(counting{ocf.SnappyCodec(), room}),
		ocf.WithCodec(counting{ocf.MustZstdCodec(nil, nil), room}),
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
		if room.Entries--; err == nil && room.full() {
			err = errFull
		}
		if err != nil {
			return err
		}
	}
}

// counting is a codec that takes what blocks hold off the room.
type counting struct {
	ocf.Codec
	room *Room
}

func (c counting) DecompressBounded(src []byte, most int64) ([]byte, error) {
	b, err := c.Codec.(ocf.BoundedDecompressor).DecompressBounded(src, most)
	if c.room.Bytes -= int64(len(b)); err == nil && c.room.full() {
		err = errFull
	}
	return b, err
}
