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

// formats say of each format that compresses what it is for, and its level unless
// one is given.
var formats = map[compress.Format]struct{ about, level string }{
	compress.Snappy: {"compress fast, as Python's partd.Snappy", ""},
	compress.S2:     {"compress fast", "1"},
	compress.Zstd:   {"compress well and fast", "3"},
	compress.LZ4:    {"compress fast, with checksums", "1"},
	compress.Zlib:   {"compress as Python's partd.ZLib", "6"},
	compress.Gzip:   {"compress into gzip files", "6"},
	compress.BZ2:    {"compress most and slowly, as Python's partd.BZ2", "9"},
	compress.Blosc:  {"compress arrays of numbers, as Python's partd.Blosc", "1 (codec zstd: 2)"},
}

// compressors are the layers that compress, with the options that each knows.
func compressors() []layer {
	var all []layer
	for _, format := range compress.Formats() {
		l := layer{name: string(format), about: formats[format].about}
		if highest := format.MaxLevel(); highest > 0 {
			l.options = append(l.options, option{"level", level(highest), formats[format].level, "how hard to try"})
		}
		l.options = append(l.options, option{"limit", limit(), "1GiB", "the most that one piece may become"})
		if format == compress.Blosc {
			l.options = append(l.options,
				option{"typesize", level(255), "8", "of a number, in bytes"},
				option{"shuffle", shuffle(), "byte", "what is put beside its like first"},
				option{"codec", codec(), "lz4", "what compresses, copy for nothing"})
		}
		l.wrap = func(inner partd.Partd, o options) (partd.Partd, error) {
			return compress.New(inner, format, compressOptions(o))
		}
		l.check = func(o options) error {
			_, err := l.wrap(partd.NewDict(), o)
			return err
		}
		all = append(all, l)
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
func level(highest int) kind {
	return kind{fmt.Sprintf("1-%d", highest), func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > highest {
			return fmt.Errorf("write a number from 1 to %d", highest)
		}
		return nil
	}}
}

// limit is the size of the largest piece.
func limit() kind {
	return kind{"SIZE", func(value string) error {
		n, err := ParseSize(value)
		if err == nil && n > math.MaxInt32 {
			err = errors.New("a piece must have less than 2GiB")
		}
		return err
	}}
}

func shuffle() kind { return parsed("byte|bit|none", blosc.ParseShuffle) }
func codec() kind   { return parsed("lz4|zstd|copy", blosc.ParseCompressor) }
