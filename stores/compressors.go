package stores

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
)

// compressors are the layers that compress, with the options that each knows.
func compressors() []layer {
	limit := option{"limit", limit()}
	all := []layer{
		{name: "snappy", about: "compress fast, as Python's partd.Snappy", options: []option{limit}},
		{name: "s2", about: "compress fast", options: []option{{"level", level(3)}, limit}},
		{name: "zstd", about: "compress well and fast", options: []option{{"level", level(22)}, limit}},
		{name: "lz4", about: "compress fast, with checksums", options: []option{{"level", level(10)}, limit}},
		{name: "zlib", about: "compress as Python's partd.ZLib", options: []option{{"level", level(9)}, limit}},
		{name: "gzip", about: "compress into gzip files", options: []option{{"level", level(9)}, limit}},
		{name: "bz2", about: "compress most and slowly, as Python's partd.BZ2", options: []option{{"level", level(9)}, limit}},
		{
			name: "blosc", about: "compress arrays of numbers, as Python's partd.Blosc",
			options: []option{{"level", level(9)}, limit, {"typesize", level(255)}, {"shuffle", shuffle()}, {"codec", codec()}},
		},
	}
	for i := range all {
		format := compress.Format(all[i].name)
		all[i].wrap = func(inner partd.Partd, o options) (partd.Partd, error) {
			return compress.New(inner, format, compressOptions(o))
		}
		all[i].check = func(o options) error {
			_, err := compress.New(partd.NewDict(), format, compressOptions(o))
			return err
		}
	}
	return all
}

// compressOptions returns the options of a layer that compresses. Those that it
// does not know are not given.
func compressOptions(o options) *compress.Options {
	opts := &compress.Options{Level: o.count("level"), Limit: o.size("limit"), TypeSize: o.count("typesize")}
	// The values have been checked.
	opts.Shuffle, _ = blosc.ParseShuffle(o.text("shuffle", "byte"))
	opts.Inner, _ = blosc.ParseCompressor(o.text("codec", "lz4"))
	return opts
}

// level is a number from 1.
func level(most int) kind {
	return kind{fmt.Sprintf("1-%d", most), func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > most {
			return fmt.Errorf("write a number from 1 to %d", most)
		}
		return nil
	}}
}

// limit is the size of the largest piece.
func limit() kind {
	return kind{"SIZE", func(value string) error {
		n, err := ParseSize(value)
		if err == nil && n > math.MaxInt32 {
			err = errors.New("a piece has less than 2GiB")
		}
		return err
	}}
}

func shuffle() kind {
	return kind{"byte|bit|none", func(value string) error {
		_, err := blosc.ParseShuffle(value)
		return err
	}}
}

func codec() kind {
	return kind{"lz4|zstd|copy", func(value string) error {
		_, err := blosc.ParseCompressor(value)
		return err
	}}
}
