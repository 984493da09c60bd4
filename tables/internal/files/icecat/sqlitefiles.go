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

// inspection is the result of inspect.
type inspection struct {
	wal
	sums   []uint64 // content of catalog.db-sums: the salts, then the hash of each page
	hashes []uint64 // hashes of catalog.db's pages, from index 1; nil if catalog.db was not read
}

// isCurrent reports whether the recorded hashes were taken for the current log. If so, only damage can change a page
// that is not in the log.
func (insp *inspection) isCurrent() bool { return insp.salts != 0 && insp.salts == insp.sums[0] }

// isEmpty reports whether the files contain no database.
func (insp *inspection) isEmpty() bool { return len(insp.hashes) == 1 && len(insp.pages) == 0 }

// inspect reads the files. If the recorded hashes were taken for the current log, it reads catalog.db only if thorough
// is set. If the files are damaged, the error wraps ErrContent.
func (f *sqliteFiles) inspect(thorough bool) (insp inspection, err error) {
	insp.sums, err = f.sums()
	if err != nil {
		return insp, err
	}
	insp.wal, err = readWAL(f.path+"-wal", checkLog)
	if err != nil {
		return insp, f.damaged("-wal", err)
	}
	if !thorough && insp.isCurrent() {
		return insp, nil
	}
	insp.hashes, err = f.hashes()
	if err != nil {
		return insp, err
	}
	changedPage, end := 0, max(len(insp.sums), len(insp.hashes))
	if insp.size > 0 { // ignore pages that the next checkpoint truncates after a VACUUM
		end = min(end, 1+insp.size)
	}
	for n := 1; n < end && changedPage == 0; n++ {
		if insp.pages[n] == nil && (n >= len(insp.sums) || n >= len(insp.hashes) || insp.sums[n] != insp.hashes[n]) {
			changedPage = n
		}
	}
	switch {
	case len(insp.hashes) == 1 && insp.sums[0] != 0:
		err = f.damaged("", errors.New("the file is empty or missing"))
	case changedPage > 0 && insp.isCurrent():
		err = f.damaged("", fmt.Errorf("page %d differs from its hash", changedPage))
	case changedPage == 0 && insp.salts == 0 && insp.sums[0] != 0:
		// No page has changed, so no other program removed the log after a checkpoint: it was lost.
		err = f.damaged("-wal", errors.New("the log is missing"))
	}
	return insp, err
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

// hashes returns the hashes of the pages in catalog.db, by page number. Element 0 is not used.
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

// checkpointAndRecord calls checkpoint and then records the hashes of the pages in the log. The database must be locked
// for writing. It hashes the pages in catalog.db and not in the log, because the log can end with a commit that SQLite
// ignores: one from a process that was killed while another had the database open.
func (f *sqliteFiles) checkpointAndRecord(checkpoint func() error) error {
	insp, err := f.inspect(false)
	if err == nil {
		err = f.write(0) // no salts until recordSalts: the process may be killed before the hashes are recorded
	}
	if err == nil {
		err = checkpoint()
	}
	if err != nil {
		return err
	}
	if insp.hashes != nil {
		insp.sums = insp.hashes
	}
	info, err := f.db.Stat()
	if err != nil {
		return err
	}
	count := int(info.Size() / pageSize)
	insp.sums = append(insp.sums, make([]uint64, max(0, 1+count-len(insp.sums)))...)[:1+count]
	page := make([]byte, pageSize)
	for n := range insp.pages {
		if n <= count {
			if _, err := f.db.ReadAt(page, int64(n-1)*pageSize); err != nil {
				return err
			}
			insp.sums[n] = xxh3.Hash(page)
		}
	}
	insp.sums[0] = 0
	return f.write(insp.sums...)
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
	if info, statErr := f.db.Stat(); statErr == nil {
		_ = file.Chmod(info.Mode()) // possible only for the file's owner, who created it
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
