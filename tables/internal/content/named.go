package content

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
)

// Named is a file that has the SHA-256 of what is in it as its name.
type Named struct {
	Hash string `json:"hash"` // 64 hexadecimal digits
	Size int64  `json:"size"`
}

// ErrDamaged is the error of a Named file that is not what its name says.
var ErrDamaged = errors.New("the file is damaged: its content is not what its name says")

// HashOf returns the name of a file.
func HashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Copy copies what has to be the file, at most its size and a byte more.
func (f Named) Copy(to io.Writer, from io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, min(f.Size, math.MaxInt64-1)+1))
	if err == nil && (n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Hash) {
		err = ErrDamaged
	}
	return err
}

// Source has Named files elsewhere.
type Source interface {
	// Open returns what a file has from an offset on. Its error wraps ErrOffset where it
	// could have had something else alone.
	Open(ctx context.Context, f Named, offset int64) (io.ReadCloser, error)
	// Try calls once, which opens a file and reads it, or calls it again, for as long as
	// the file may take.
	Try(ctx context.Context, f Named, once func(ctx context.Context) error) error
}

// ErrOffset is wrapped by the error of a Source for an offset that it did not go to.
var ErrOffset = errors.New("it sent something else")
