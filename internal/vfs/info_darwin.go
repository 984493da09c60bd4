package vfs

import "syscall"

func infoOf(st *syscall.Stat_t) Info {
	return Info{
		Size: st.Size, Disk: st.Blocks * 512, Links: uint64(st.Nlink), Dev: uint64(st.Dev), Ino: st.Ino, Mode: modeOf(uint32(st.Mode)),
		MTime: st.Mtimespec.Nano(), CTime: st.Ctimespec.Nano(),
	}
}
