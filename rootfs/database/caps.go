package database

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// capabilities are the names of capabilities(7) in order of their numbers, without "cap_".
func capabilities() []string {
	return strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw
		ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write
		audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)
}

// capSets are the capabilities of a file.
type capSets struct {
	permitted, inheritable uint64
	effective              bool
}

// equalCaps reports whether a file has the capabilities that a text tells, "" being none.
func equalCaps(node *layers.Node, text string) bool {
	value, _ := node.Xattr("security.capability")
	return decodeCaps(value) == parseCaps(text)
}

// decodeCaps reads the attribute security.capability (linux/capability.h, struct vfs_cap_data): a magic with the flag "effective", then
// the permitted and the inheritable set by words of 32 bits, little-endian.
func decodeCaps(value string) (c capSets) {
	data := []byte(value)
	if len(data) < 12 {
		return c
	}
	c.effective = data[0]&1 != 0
	c.permitted, c.inheritable = uint64(binary.LittleEndian.Uint32(data[4:])), uint64(binary.LittleEndian.Uint32(data[8:]))
	if len(data) >= 20 {
		c.permitted |= uint64(binary.LittleEndian.Uint32(data[12:])) << 32
		c.inheritable |= uint64(binary.LittleEndian.Uint32(data[16:])) << 32
	}
	return c
}

// parseCaps reads a text as cap_from_text(3) does, such as "cap_net_admin,cap_net_raw=ep": clauses of names, each with operators and the sets
// that they change.
func parseCaps(text string) (c capSets) {
	var effective uint64
	for clause := range strings.FieldsSeq(text) {
		at := strings.IndexAny(clause, "=+-")
		if at < 0 {
			continue
		}
		bits := parseNames(clause[:at])
		for rest := clause[at:]; rest != ""; {
			operator := rest[0]
			rest = rest[1:]
			end := strings.IndexAny(rest, "=+-")
			if end < 0 {
				end = len(rest)
			}
			for flag, set := range map[byte]*uint64{'p': &c.permitted, 'i': &c.inheritable, 'e': &effective} {
				named := strings.IndexByte(rest[:end], flag) >= 0
				switch {
				case operator == '=' && !named, operator == '-' && named:
					*set &^= bits
				case named:
					*set |= bits
				}
			}
			rest = rest[end:]
		}
	}
	c.effective = effective != 0
	return c
}

// parseNames reads names with commas between them; "all" or nothing are all capabilities.
func parseNames(list string) (bits uint64) {
	names := capabilities()
	if list == "" || list == "all" {
		return 1<<len(names) - 1
	}
	for name := range strings.SplitSeq(list, ",") {
		if i := slices.Index(names, strings.TrimPrefix(strings.ToLower(name), "cap_")); i >= 0 {
			bits |= 1 << i
		}
	}
	return bits
}
