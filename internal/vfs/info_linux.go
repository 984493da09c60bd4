package vfs

import "syscall"

// The conversions are not needless: the types of the fields differ between
// processors.
func infoOf(st *syscall.Stat_t) Info {
	return Info{
		Size: st.Size, Disk: st.Blocks * 512, Links: uint64(st.Nlink), Dev: st.Dev, Ino: st.Ino, Mode: modeOf(st.Mode),
		MTime: int64(st.Mtim.Sec)*1e9 + int64(st.Mtim.Nsec), CTime: int64(st.Ctim.Sec)*1e9 + int64(st.Ctim.Nsec),
	}
}
