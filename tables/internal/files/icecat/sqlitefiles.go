package icecat

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"
)

// sqliteFiles detects damage in the files of catalog.db. SQLite itself does not: pages have no checksums, and after a
// damaged frame, it drops all further commits in the write-ahead log.
//
// The file catalog.db-sums contains 8-byte integers: the salts of the log, and the hash of each page. Before a
// checkpoint copies pages from the log, their hashes are recorded. So a page that is not in the log has its recorded
// hash, except after a checkpoint by another program. But in that case, the log has been removed, or started again with
// other salts.
type sqliteFiles struct {
	path string
	db   *sharedFile
}

const remedyRebuild = "run verify --rebuild, or restore a backup"

// sharedFile is a database file. A process opens it only once: on Unix, closing any of a process's descriptors of a
// file releases all of the process's locks on the file, including SQLite's.
type sharedFile struct {
	*os.File
	users int
}

var sharedFiles = struct {
	sync.Mutex
	byPath map[string]*sharedFile
}{byPath: map[string]*sharedFile{}}

func openSQLiteFiles(path string) (*sqliteFiles, error) {
	sharedFiles.Lock()
	defer sharedFiles.Unlock()
	db := sharedFiles.byPath[path]
	if db == nil {
		file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		db = &sharedFile{File: file}
		sharedFiles.byPath[path] = db
	}
	db.users++
	return &sqliteFiles{path, db}, nil
}

// CopyDatabase copies the database file at path to w. It keeps the process's locks on the file.
func CopyDatabase(w io.Writer, path string) error {
	if _, err := os.Stat(path); err != nil {
		return err // openSQLiteFiles would create it
	}
	f, err := openSQLiteFiles(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(f.db, 0, math.MaxInt64))
	return errors.Join(err, f.close())
}

func (f *sqliteFiles) close() error {
	sharedFiles.Lock()
	defer sharedFiles.Unlock()
	f.db.users--
	if f.db.users > 0 {
		return nil
	}
	delete(sharedFiles.byPath, f.path)
	return f.db.Close()
}

// inspection is what inspect found.
type inspection struct {
	wal
	sums   []uint64 // recorded: the salts, and the hash of each page
	hashes []uint64 // 0, and the hash of each page in catalog.db; nil if catalog.db was not read
}

// isCurrent reports whether the recorded hashes belong to the log. If they do, only damage can change a page that is
// not in the log.
func (i *inspection) isCurrent() bool { return i.salts != 0 && i.salts == i.sums[0] }

// isEmpty reports whether the files contain no database.
func (i *inspection) isEmpty() bool { return len(i.hashes) == 1 && len(i.pages) == 0 }

// inspect reads the files. If the recorded hashes belong to the log, it reads catalog.db only if thorough is set. If
// the files are damaged, the error wraps ErrContent.
func (f *sqliteFiles) inspect(thorough bool) (i inspection, err error) {
	i.sums, err = f.sums()
	if err != nil {
		return i, err
	}
	i.wal, err = readWAL(f.path+"-wal", checkLog)
	if err != nil {
		return i, f.damaged("-wal", err)
	}
	if !thorough && i.isCurrent() {
		return i, nil
	}
	i.hashes, err = f.hashes()
	if err != nil {
		return i, err
	}
	changed, end := 0, max(len(i.sums), len(i.hashes))
	if i.size > 0 { // a VACUUM makes the database smaller; a checkpoint then makes catalog.db smaller
		end = min(end, 1+i.size)
	}
	for n := 1; n < end && changed == 0; n++ {
		if i.pages[n] == nil && (n >= len(i.sums) || n >= len(i.hashes) || i.sums[n] != i.hashes[n]) {
			changed = n
		}
	}
	switch {
	case len(i.hashes) == 1 && i.sums[0] != 0:
		err = f.damaged("", errors.New("the file is empty or missing"))
	case changed > 0 && i.isCurrent():
		err = f.damaged("", fmt.Errorf("page %d differs from its hash", changed))
	case changed == 0 && i.salts == 0 && i.sums[0] != 0:
		// If another program had removed the log after a checkpoint, a page would have changed.
		err = f.damaged("-wal", errors.New("the log is missing"))
	}
	return i, err
}

func (f *sqliteFiles) damaged(suffix string, err error) error {
	return &Damaged{File: f.path + suffix, Err: err, Remedy: remedyRebuild}
}

// sums returns the content of catalog.db-sums.
func (f *sqliteFiles) sums() ([]uint64, error) {
	b, err := os.ReadFile(f.path + "-sums")
	sums := make([]uint64, max(1, len(b)/8))
	_, _ = binary.Decode(b, binary.BigEndian, sums) // fails only for an empty file
	return sums, ignoreMissing(err)
}

// hashes returns 0 and the hashes of the pages in catalog.db.
func (f *sqliteFiles) hashes() ([]uint64, error) {
	hashes, b := []uint64{0}, make([]byte, 64*pageSize)
	for offset := int64(0); ; offset += int64(len(b)) {
		n, err := f.db.ReadAt(b, offset)
		for page := range slices.Chunk(b[:n], pageSize) {
			hashes = append(hashes, xxh3.Hash(page))
		}
		if err == io.EOF {
			return hashes, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// record calls checkpoint, and then records the hashes of the pages in the log. The database must be locked for
// writing. The hashes are those in catalog.db, because the log can end with a commit that SQLite ignores: one from a
// killed process, while another process has the database open.
func (f *sqliteFiles) record(checkpoint func() error) error {
	i, err := f.inspect(false)
	if err == nil {
		err = f.write(0) // no salts until recordSalts, because this or another program may end before the hashes are recorded
	}
	if err == nil {
		err = checkpoint()
	}
	if err != nil {
		return err
	}
	if i.hashes != nil {
		i.sums = i.hashes
	}
	info, err := f.db.Stat()
	if err != nil {
		return err
	}
	count := int(info.Size() / pageSize)
	i.sums = append(i.sums, make([]uint64, max(0, 1+count-len(i.sums)))...)[:1+count]
	page := make([]byte, pageSize)
	for n := range i.pages {
		if n <= count {
			if _, err := f.db.ReadAt(page, int64(n-1)*pageSize); err != nil {
				return err
			}
			i.sums[n] = xxh3.Hash(page)
		}
	}
	i.sums[0] = 0
	return f.write(i.sums...)
}

// recordSalts records the salts of the log. Pages that are not in the log must have recorded hashes.
func (f *sqliteFiles) recordSalts() error {
	w, err := readWAL(f.path+"-wal", checkLog)
	return cmp.Or(err, f.write(w.salts))
}

// write writes and syncs the first part of catalog.db-sums.
func (f *sqliteFiles) write(sums ...uint64) error {
	file, err := os.OpenFile(f.path+"-sums", os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	b, _ := binary.Append(nil, binary.BigEndian, sums) // cannot fail for integers
	_, err = file.WriteAt(b, 0)
	if err == nil && len(sums) > 1 {
		err = file.Truncate(int64(len(b))) // VACUUM may have made the database smaller
	}
	if i, statErr := f.db.Stat(); statErr == nil {
		_ = file.Chmod(i.Mode()) // only the owner, who created it, can do this
	}
	return errors.Join(err, file.Sync(), file.Close())
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
