// Package content copies, verifies and repairs files by what is in them. The catalog of
// a store knows the files of its tables by their xxh3-128, which [Copy] and [Verifier]
// go by; [Named] are files that have their SHA-256 as their name.
package content

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// Of reads a file, and returns what the catalog would keep of it.
func Of(c *icecat.Catalog, location string) (icecat.WrittenFile, error) {
	f, err := c.NewIO().Open(location)
	if err != nil {
		return icecat.WrittenFile{}, err
	}
	hash := xxh3.New()
	n, err := io.Copy(hash, f)
	return icecat.WrittenFile{Path: location, Size: n, Hash: hash.Sum128()}, errors.Join(err, f.Close())
}

// Check reads a file, and returns why it does not hold what it should.
func Check(c *icecat.Catalog, location string, want icecat.WrittenFile) error {
	is, err := Of(c, location)
	if err != nil {
		return cause(err)
	}
	return want.Check(is.Size, is.Hash)
}

// checkSize returns why a file has not the size that the table's metadata says.
func checkSize(c *icecat.Catalog, location string, want int64) error {
	f, err := c.NewIO().Open(location)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != want {
		err = fmt.Errorf("it has %d bytes, and the table's metadata says %d", info.Size(), want)
	}
	return errors.Join(err, f.Close())
}

// Entries returns the files that a manifest has.
func Entries(io iceio.IO, m iceberg.ManifestFile) (all []iceberg.ManifestEntry, err error) {
	for e, err := range m.Entries(io, true) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// cause is what is wrong with a file, without what is to be done.
func cause(err error) error {
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		return d.Err
	}
	return err
}
