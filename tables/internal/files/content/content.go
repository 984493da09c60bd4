// Package content copies, verifies and repairs files. [Copy] and [Verifier] identify a file's content by the xxh3-128
// checksum in a store's catalog; a [HashNamed] file has its SHA-256 as its name.
package content

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"
	"github.com/apache/arrow-go/v18/parquet"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// EntryOf reads a file and returns its size and checksum for the catalog.
func EntryOf(ctx context.Context, c *icecat.Catalog, location string) (icecat.WrittenFile, error) {
	f, err := c.NewIO().Open(location)
	if err != nil {
		return icecat.WrittenFile{}, err
	}
	hash := xxh3.New()
	n, err := io.Copy(hash, &meteredReader{f, ctx})
	return icecat.WrittenFile{Path: location, Size: n, Hash: hash.Sum128()}, errors.Join(err, f.Close())
}

// Check reads a file and returns an error unless it has the expected size and checksum.
func Check(ctx context.Context, c *icecat.Catalog, location string, expected icecat.WrittenFile) error {
	actual, err := EntryOf(ctx, c, location)
	if err != nil {
		return cause(err)
	}
	return expected.Check(actual.Size, actual.Hash)
}

func checkSize(c *icecat.Catalog, location string, expected int64) error {
	f, err := c.NewIO().Open(location)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != expected {
		err = fmt.Errorf("the file has %d bytes, but the table's metadata says %d", info.Size(), expected)
	}
	return errors.Join(err, f.Close())
}

// Entries returns the entries of a manifest, except deleted ones.
func Entries(fileIO iceio.IO, m iceberg.ManifestFile) (all []iceberg.ManifestEntry, err error) {
	for e, err := range m.Entries(fileIO, true) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// cause returns err without the advice that icecat.Damaged adds.
func cause(err error) error {
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		return d.Err
	}
	return err
}

// checkDataFile compares a data file's size, row count and statistics with its manifest entry. It also reads delete
// files.
func (v *Verifier) checkDataFile(ctx context.Context, t *table.Table, d iceberg.DataFile) error {
	err := checkSize(v.Catalog, d.FilePath(), d.FileSizeBytes())
	if err == nil && d.ContentType() != iceberg.EntryContentData {
		err = v.CheckDeletes(ctx, t, d)
	}
	if err != nil || d.FileFormat() != iceberg.ParquetFile {
		return err
	}
	f, err := v.fileIO.Open(d.FilePath())
	if err != nil {
		return err
	}
	r, err := schema.OpenParquet(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer r.Close() //nolint:errcheck // opened only for reading
	if n := r.NumRows(); n != d.Count() {
		return fmt.Errorf("the file has %d rows, but its manifest says %d", n, d.Count())
	}
	if d.ContentType() != iceberg.EntryContentData {
		return nil
	}
	lower, upper := d.LowerBoundValues(), d.UpperBoundValues()
	for i := range r.MetaData().Schema.NumColumns() {
		column := r.MetaData().Schema.Column(i)
		id := int(column.SchemaNode().FieldID())
		lowerBound, hasLower := lower[id]
		upperBound, hasUpper := upper[id]
		for g := range r.NumRowGroups() {
			chunk, err := r.MetaData().RowGroup(g).ColumnChunk(i)
			if err != nil {
				return err
			}
			stats, err := chunk.Statistics()
			if err != nil || stats == nil || !stats.HasMinMax() {
				continue
			}
			isBelow := hasLower && comparePlain(column, lowerBound, stats.EncodeMin()) > 0
			if isBelow || hasUpper && comparePlain(column, upperBound, stats.EncodeMax()) < 0 {
				return fmt.Errorf("column %q has values outside the bounds in its manifest", column.Path())
			}
		}
	}
	return nil
}

// comparePlain compares a bound in Iceberg's encoding with a value in Parquet's plain encoding. It returns 0 if
// it does not support the column's type.
func comparePlain(column *pqschema.Column, bound, value []byte) int {
	_, decimal := column.LogicalType().(pqschema.DecimalLogicalType)
	t := column.PhysicalType()
	switch {
	case t == parquet.Types.Boolean || schema.IsInt96(column):
		return 0
	case t == parquet.Types.ByteArray || t == parquet.Types.FixedLenByteArray:
		if !decimal {
			return bytes.Compare(bound, value)
		}
	default: // a number
		value = slices.Clone(value)
		slices.Reverse(value)
		if decimal {
			break
		}
		if len(bound) != len(value) {
			return 0
		}
		bound = slices.Clone(bound)
		slices.Reverse(bound)
		if t == parquet.Types.Float {
			return cmp.Compare(math.Float32frombits(binary.BigEndian.Uint32(bound)), math.Float32frombits(binary.BigEndian.Uint32(value)))
		} else if t == parquet.Types.Double {
			return cmp.Compare(math.Float64frombits(binary.BigEndian.Uint64(bound)), math.Float64frombits(binary.BigEndian.Uint64(value)))
		}
	}
	return bigEndianInt(bound).Cmp(bigEndianInt(value))
}

func bigEndianInt(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return n
}

// RowSum is a checksum of rows: the row count, and the sum of the rows' xxh3-128 hashes modulo 2^128.
type RowSum struct {
	Rows   int64
	hi, lo uint64
	buf    []byte
}

// SumRows returns the checksum of the rows of r and releases r. It counts their bytes in the meter of ctx. If err, the
// error from opening r, is not nil, SumRows returns it.
func SumRows(ctx context.Context, r array.RecordReader, err error) (*RowSum, error) {
	if err != nil {
		return nil, err
	}
	defer r.Release()
	s := &RowSum{}
	for r.Next() {
		s.Add(r.RecordBatch())
		if err := Count(ctx, util.TotalRecordSize(r.RecordBatch())); err != nil {
			return nil, err
		}
	}
	return s, r.Err()
}

// Add adds the rows of a batch. It hashes the values as strings, so the encoding of a column does not matter.
func (s *RowSum) Add(b arrow.RecordBatch) {
	for i := range int(b.NumRows()) {
		s.buf = s.buf[:0]
		for _, c := range b.Columns() {
			if c.IsNull(i) {
				s.buf = binary.AppendUvarint(s.buf, 0)
				continue
			}
			text := c.ValueStr(i)
			s.buf = append(binary.AppendUvarint(s.buf, uint64(len(text))+1), text...)
		}
		h := xxh3.Hash128(s.buf)
		var carry uint64
		s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
		s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
	}
	s.Rows += b.NumRows()
}

// String returns the checksum in hexadecimal digits.
func (s *RowSum) String() string { return fmt.Sprintf("%016x%016x", s.hi, s.lo) }

// Equals reports whether the rows are equal, in any order.
func (s *RowSum) Equals(t *RowSum) bool { return s.Rows == t.Rows && s.hi == t.hi && s.lo == t.lo }
