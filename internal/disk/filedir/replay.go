package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// recover completes or undoes the operation that the journal describes. If recover is interrupted,
// it can be repeated. The exclusive lock must be held.
func (d *Dir) recover() error {
	if err := d.closeCached(); err != nil { // the sizes in the cache may be stale
		return err
	}
	r, err := d.readRecord()
	if err != nil {
		return err
	}
	if r != nil {
		d.log.Info("partd: completing or undoing an interrupted change", "dir", d.dir, "undo", r.kind == kindAppend, "files", len(r.spans))
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
				return fmt.Errorf("completing or undoing the change that %s describes: %w", d.path(names.Journal), err)
			}
		}
		if err := d.finishTag(r, applied); err != nil {
			return err
		}
		if d.sync || r.synced {
			if err := d.refuseWrites(d.syncFinished(r)); err != nil {
				return err
			}
		} else if r.kind == kindAppend {
			for i := range r.spans {
				d.dirty.add(d.path(r.spans[i].name))
			}
		}
	}
	if d.failure != nil { // a sync failed, so keep the record until the store is opened again
		return nil
	}
	return d.clearRecord()
}

// syncFinished makes the effect of recover durable. Call it before clearing the record.
func (d *Dir) syncFinished(r *record) error {
	if d.failure != nil {
		return nil
	}
	for i := range r.spans {
		d.markNamesDirty(r.spans[i].name) // the killed process may have changed names in subdirectories without syncing them
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

func (d *Dir) mayHaveRebooted(r *record) bool { return r.boot == 0 || r.boot != d.boot }

// undo removes the bytes that an append added to the file of s, which is span i of r. It keeps
// bytes that another process appended afterwards.
func (d *Dir) undo(r *record, s *span, i int) (err error) {
	path := d.path(s.name)
	file, err := d.open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || err != nil && d.isDir(path) { // a directory may have been created for a tuple key
		if s.created {
			return d.removeKeyText(s.name)
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
	if s.progress == info.Ino { // an earlier undo already replaced this file
		return nil
	}
	if size > s.oldSize {
		end, err := d.appendEnd(r, s, file, path, size)
		if err != nil {
			return err
		}
		if end < size && end > s.oldSize {
			return d.removeRange(r, s, i, file, info.Mode, end, size)
		}
		if end == size {
			if err := file.Truncate(s.oldSize); err != nil {
				return err
			}
			size = s.oldSize
		}
	}
	if s.created && size == 0 {
		if err := d.removeValue(s.name); err != nil {
			return err
		}
	}
	if d.boot == 0 {
		return nil
	}
	return d.recordProgress(r, i, d.boot)
}

// minProof is how many bytes must match before undo removes the append's bytes and keeps the bytes
// that follow. Fewer bytes could match by chance.
const minProof = 16

// appendEnd returns the end of the bytes that the append added to the file. Any bytes after that
// were appended by another process.
func (d *Dir) appendEnd(r *record, s *span, file vfs.File, path string, size int64) (int64, error) {
	end := s.oldSize + s.addSize
	matchEnd, err := s.matchEnd(file, size)
	if err != nil {
		return 0, err
	}
	if matchEnd == end || matchEnd == size {
		return matchEnd, nil
	}
	corrupt := func(off int64) error {
		return d.corrupt(path, off, fmt.Errorf(
			"the bytes at offset %d do not match the interrupted append, and may be corrupt: "+
				"check them, then truncate the file (truncate --size=%d) or leave it unchanged, and remove %s",
			off, s.oldSize, d.path(names.Journal)))
	}
	if !d.mayHaveRebooted(r) {
		// The write of a process that died ends at a multiple of the page size; any bytes after
		// that are from another process. A write that failed, and whose undo failed too, may end
		// anywhere.
		if matchEnd > s.oldSize && matchEnd%pageSize != 0 && size < min(end, pieceEnd(matchEnd)) {
			return size, nil
		}
		if matchEnd > s.oldSize && matchEnd-s.oldSize < minProof {
			return 0, corrupt(matchEnd)
		}
		return matchEnd, nil
	}
	// The power may have failed, so blocks of the append may be missing.
	if size <= end {
		if r.synced {
			return size, nil
		}
		zero, err := allZero(file, matchEnd, size)
		if err != nil {
			return 0, err
		}
		if zero {
			return size, nil
		}
	}
	return 0, corrupt(matchEnd)
}

// matchEnd returns where the file's bytes stop matching those of the append. This is the end of the
// append, the end of the file, or an offset where an interrupted write may have ended.
func (s *span) matchEnd(file vfs.File, size int64) (int64, error) {
	stored := make([]byte, min(int64(len(s.inline)), size-s.oldSize))
	if err := readFull(file, stored, s.oldSize); err != nil {
		return 0, err
	}
	n := int64(0)
	for n < int64(len(stored)) && stored[n] == s.inline[n] {
		n++
	}
	if s.sums == nil || s.oldSize+n == size {
		if n == int64(len(stored)) {
			return s.oldSize + n, nil
		}
		return max(s.oldSize, (s.oldSize+n)/pageSize*pageSize), nil
	}
	buf := make([]byte, pieceSize)
	offset := s.oldSize
	for _, sum := range s.sums {
		end := min(pieceEnd(offset), s.oldSize+s.addSize)
		if end > size {
			break
		}
		piece := buf[:end-offset]
		if err := readFull(file, piece, offset); err != nil {
			return 0, err
		}
		if crc32.Checksum(piece, castagnoli) != sum {
			break
		}
		offset = end
	}
	return offset, nil
}

// removeRange replaces the file with a copy without the bytes from s.oldSize to cut. size is the
// file's length.
func (d *Dir) removeRange(r *record, s *span, i int, file vfs.File, mode fs.FileMode, cut, size int64) error {
	d.log.Warn("partd: keeping bytes that another process appended after an interrupted append",
		"file", file.Name(), "from", cut, "to", size)
	tmp, err := d.newTemp(mode.Perm())
	if err != nil {
		return err
	}
	err = copyRange(tmp, 0, file, 0, s.oldSize)
	if err == nil {
		err = copyRange(tmp, s.oldSize, file, cut, size)
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
	// Record the progress before the rename. Otherwise, a repeated undo could also remove the kept
	// bytes, if they happen to equal bytes of the append.
	if err := d.recordProgress(r, i, info.Ino); err != nil {
		return err
	}
	if (d.sync || r.synced) && d.failure == nil {
		if err := d.refuseWrites(d.journal.file.Sync()); err != nil {
			return err
		}
	}
	return d.fs.Rename(d.path(names.Temp), d.path(s.name))
}

func (d *Dir) recordProgress(r *record, i int, progress uint64) error {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], progress)
	_, err := d.journal.file.WriteAt(p[:], r.progress+8*int64(i))
	return err
}

// redoRemove removes a file of an interrupted Delete or Drop, unless another process changed the
// file afterwards.
func (d *Dir) redoRemove(r *record, s *span) error {
	info, err := d.fs.Info(d.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeKeyText(s.name)
	}
	if err != nil {
		return err
	}
	// A power loss can also lose a file's modification time.
	if info.Ino != s.ino || info.Size != s.size || info.MTime != s.mtime && !d.mayHaveRebooted(r) {
		d.log.Warn("partd: keeping a file that should have been removed, because another process changed it", "file", d.path(s.name))
		return nil
	}
	return d.removeValue(s.name)
}
