package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// finish finishes or undoes what a process left half-done, as the journal says.
// It is called with the lock held exclusively. It may be cut short at any point,
// and done again.
func (d *Dir) finish() error {
	if err := d.closeKept(); err != nil { // what is known of the files no longer holds
		return err
	}
	r, err := d.readRecord()
	if err != nil {
		return err
	}
	if r != nil {
		d.log.Info("partd: finishing or undoing an interrupted change", "dir", d.dir, "undo", r.kind == kindAppend, "files", len(r.spans))
		applied := r.kind != kindAppend
		for i := range r.spans {
			s := &r.spans[i]
			if s.progress != 0 && s.progress == d.boot {
				continue
			}
			switch r.kind {
			case kindAppend:
				err = d.undo(r, s, i)
			case kindSet:
				applied, err = d.redoSet(r, s)
			default:
				err = d.redoRemove(r, s)
			}
			if err != nil {
				return fmt.Errorf("finishing what is noted in %s: %w", d.path(names.Journal), err)
			}
		}
		if err := d.finishTag(r, applied); err != nil {
			return err
		}
		if d.sync || r.synced {
			if err := d.refuse(d.syncFinished(r)); err != nil {
				return err
			}
		} else if r.kind == kindAppend {
			for i := range r.spans {
				d.dirty.add(d.path(r.spans[i].name))
			}
		}
	}
	if d.failed != nil { // no more writes: the record stays for who opens the store next
		return nil
	}
	return d.clearRecord()
}

// syncFinished makes what finish did survive before the record is gone.
func (d *Dir) syncFinished(r *record) error {
	if d.failed != nil {
		return nil
	}
	for i := range r.spans {
		if r.kind == kindAppend {
			if err := d.syncPath(d.path(r.spans[i].name)); err != nil {
				return err
			}
		}
	}
	if r.tag != nil && d.sessions.file != nil {
		if err := d.sessions.file.Sync(); err != nil {
			return err
		}
	}
	return d.syncNames()
}

// otherBoot reports whether the system was started anew since the record was
// written, or may have been.
func (d *Dir) otherBoot(r *record) bool { return r.boot == 0 || r.boot != d.boot }

// undo cuts out of a file what an append added to it, and nothing else.
func (d *Dir) undo(r *record, s *span, i int) (err error) {
	path := d.path(s.name)
	file, err := d.open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || err != nil && d.isDir(path) { // made for another key of the append
		if s.created {
			return d.removeLongKey(s.name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Info()
	if err != nil {
		return err
	}
	size := info.Size
	if s.progress == info.Ino { // replaced already
		return nil
	}
	if size > s.old {
		cut, err := d.oursUpTo(r, s, file, path, size)
		if err != nil {
			return err
		}
		if cut < size && cut > s.old {
			return d.cutOut(r, s, i, file, info.Mode, cut, size)
		}
		if cut == size {
			if err := file.Truncate(s.old); err != nil {
				return err
			}
			size = s.old
		}
	}
	if s.created && size == 0 {
		if err := d.removeKeyFile(s.name); err != nil {
			return err
		}
	}
	if d.boot == 0 {
		return nil
	}
	return d.noteProgress(r, i, d.boot)
}

// minProof is the number of bytes that must match for a torn piece with
// something else behind it to be taken for a piece of the append.
const minProof = 16

// oursUpTo returns the offset up to which a file holds what the append added;
// what is behind that, another process appended.
func (d *Dir) oursUpTo(r *record, s *span, file vfs.File, path string, size int64) (int64, error) {
	end := s.old + s.add
	ours, err := s.match(file, size)
	if err != nil {
		return 0, err
	}
	if ours == end || ours == size {
		return ours, nil
	}
	corrupt := func(off int64) error {
		return d.corrupt(path, off, fmt.Errorf(
			"the bytes from %d on are not those of the append that was cut off there, nor can another process have appended them for sure: "+
				"look at them, cut the file (truncate --size=%d) or keep it as it is, then remove %s",
			off, s.old, d.path(names.Journal)))
	}
	if !d.otherBoot(r) {
		// The process died, the system did not: its write ended at a multiple of
		// the page size then, and what follows is another process's. Or the
		// write failed, and so did undoing it: then it may have ended anywhere.
		if ours > s.old && ours%pageSize != 0 && size < min(end, pieceEnd(ours)) {
			return size, nil
		}
		if ours > s.old && ours-s.old < minProof {
			return 0, corrupt(ours)
		}
		return ours, nil
	}
	// The power may have failed: blocks of the append may be missing.
	if size <= end {
		if r.synced {
			return size, nil
		}
		zero, err := allZero(file, ours, size)
		if err != nil {
			return 0, err
		}
		if zero {
			return size, nil
		}
	}
	return 0, corrupt(ours)
}

// match returns the offset up to which the file holds the bytes of the append:
// all of them, all up to the end of the file, or up to an offset at which a
// write can end.
func (s *span) match(file vfs.File, size int64) (int64, error) {
	got := make([]byte, min(int64(len(s.inline)), size-s.old))
	if err := readFull(file, got, s.old); err != nil {
		return 0, err
	}
	n := int64(0)
	for n < int64(len(got)) && got[n] == s.inline[n] {
		n++
	}
	if s.sums == nil || s.old+n == size {
		if n == int64(len(got)) {
			return s.old + n, nil
		}
		return max(s.old, (s.old+n)/pageSize*pageSize), nil
	}
	buf := make([]byte, pieceSize)
	at := s.old
	for _, sum := range s.sums {
		next := min(pieceEnd(at), s.old+s.add)
		if next > size {
			break
		}
		piece := buf[:next-at]
		if err := readFull(file, piece, at); err != nil {
			return 0, err
		}
		if crc32.Checksum(piece, castagnoli) != sum {
			break
		}
		at = next
	}
	return at, nil
}

// cutOut takes the bytes from s.old to cut out of a file and keeps those behind
// them. The file is replaced as a whole.
func (d *Dir) cutOut(r *record, s *span, i int, file vfs.File, mode fs.FileMode, cut, size int64) error {
	d.log.Warn("partd: keeping what another process appended after an append that was cut off",
		"file", file.Name(), "from", cut, "to", size)
	tmp, err := d.newTemp(mode.Perm())
	if err != nil {
		return err
	}
	err = copyRange(tmp, 0, file, 0, s.old)
	if err == nil {
		err = copyRange(tmp, s.old, file, cut, size)
	}
	if err == nil && (d.sync || r.synced) {
		err = tmp.Sync()
	}
	var info vfs.Info
	if err == nil {
		info, err = tmp.Info()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	// Were it only renamed, whoever does this again would find the bytes that
	// were kept where those to cut out were, and they may be equal.
	if err := d.noteProgress(r, i, info.Ino); err != nil {
		return err
	}
	if (d.sync || r.synced) && d.failed == nil {
		if err := d.refuse(d.journal.file.Sync()); err != nil {
			return err
		}
	}
	return d.fs.Rename(d.path(names.Temp), d.path(s.name))
}

func (d *Dir) noteProgress(r *record, i int, progress uint64) error {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], progress)
	_, err := d.journal.file.WriteAt(p[:], r.progress+8*int64(i))
	return err
}

// redoRemove removes a file that a Delete or a Drop was to remove, unless
// another process changed it since.
func (d *Dir) redoRemove(r *record, s *span) error {
	info, err := d.fs.Info(d.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeLongKey(s.name)
	}
	if err != nil {
		return err
	}
	// A loss of power may take a file's time with it.
	if info.Ino != s.ino || info.Size != s.size || info.MTime != s.mtime && !d.otherBoot(r) {
		d.log.Warn("partd: keeping a file that should have been removed, since another process changed it", "file", d.path(s.name))
		return nil
	}
	return d.removeKeyFile(s.name)
}
