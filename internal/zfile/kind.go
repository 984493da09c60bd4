// Package zfile reads and writes compressed files: gzip, zstd, bzip2 and
// LZ4 frames. Files to read are known by their content, files to write by the
// extension of their name.
package zfile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// Kind is a compression.
type Kind uint8

// The kinds. None is a file that is not compressed.
const (
	None Kind = iota
	Gzip
	Zstd
	Bzip2
	LZ4
)

// Extensions lists the extensions of the names of compressed files.
const Extensions = ".gz, .zst, .bz2, .lz4"

var (
	kindNames  = [...]string{None: "plain", Gzip: "gzip", Zstd: "zstd", Bzip2: "bzip2", LZ4: "lz4"}
	extensions = map[string]Kind{
		".gz": Gzip, ".gzip": Gzip, ".zst": Zstd, ".zstd": Zstd, ".bz2": Bzip2, ".bzip2": Bzip2, ".lz4": LZ4,
	}
)

func (k Kind) String() string { return kindNames[k] }

// HeadSize is how many bytes of a file Detect looks at, at most.
const HeadSize = 10

// Detect tells from the first bytes of a file how it is compressed.
func Detect(head []byte) Kind {
	begins := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case begins("\x1f\x8b"): // RFC 1952
		return Gzip
	case begins("\x28\xb5\x2f\xfd"): // RFC 8878
		return Zstd
	case begins("\x04\x22\x4d\x18"): // the LZ4 frame format, 1.6
		return LZ4
	case len(head) >= HeadSize && begins("BZh") && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90"):
		// A block, or the end of a file that holds nothing. A line of text may begin
		// with BZh, too.
		return Bzip2
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18":
		return Zstd // a skippable frame, as pzstd writes first; LZ4 has the same
	}
	return None
}

// ByName tells from the extension of a file's name how it is, or will be,
// compressed.
func ByName(name string) Kind { return extensions[strings.ToLower(filepath.Ext(name))] }

// CheckName returns an error for a name with the extension of a compression or
// an archive that is not written here: the file would not be what it says.
func CheckName(name string) error {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".xz", ".lzma", ".br", ".z", ".sz", ".7z", ".zip", ".rar", ".tar", ".parquet":
		return fmt.Errorf("%s: files that end in %s are not written; those in %s are", name, ext, Extensions)
	}
	return nil
}

// TrimName returns a name without the extension that says how it is compressed.
func TrimName(name string) string {
	if ByName(name) == None {
		return name
	}
	return strings.TrimSuffix(name, filepath.Ext(name))
}
