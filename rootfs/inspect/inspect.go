// Package inspect tells what a root tree is: for which architecture, of which distribution, with which package database and accounts.
// It reads the tree and runs nothing of it.
package inspect

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// maxText bounds the text files that are read whole, in bytes.
const maxText = 4 << 20

// machineName turns the machine field of ELF files (System V ABI, e_machine) into names as uname -m prints them.
func machineName(machine elf.Machine, data elf.Data) string {
	switch machine {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_386:
		return "i686"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_ARM:
		return "armv7l"
	case elf.EM_PPC64:
		if data == elf.ELFDATA2LSB {
			return "ppc64le"
		}
		return "ppc64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_LOONGARCH:
		return "loongarch64"
	}
	return ""
}

// Architecture returns the architecture of the tree's programs as uname -m prints it, or "" if the tree has none of the programs
// that tell.
func Architecture(tree *layers.Tree) (string, error) {
	for _, name := range []string{"bin/sh", "bin/bash", "usr/bin/env", "bin/busybox", "sbin/init", "usr/lib/systemd/systemd", "usr/bin/coreutils"} {
		_, node, err := tree.Resolve(name)
		if err != nil || !node.IsRegular() {
			continue
		}
		header, err := readStart(node, 64)
		if err != nil {
			return "", err
		}
		if machine := machineOf(header); machine != "" {
			return machine, nil
		}
	}
	return "", nil
}

func readStart(node *layers.Node, n int) ([]byte, error) {
	r, err := node.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	start := make([]byte, n)
	got, err := io.ReadFull(r, start)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		err = nil
	}
	return start[:got], err
}

// machineOf reads the byte order at byte 5 of the ELF identification and the machine at byte 18.
func machineOf(start []byte) string {
	if len(start) < 20 || string(start[:4]) != elf.ELFMAG {
		return ""
	}
	data := elf.Data(start[5])
	machine := binary.LittleEndian.Uint16(start[18:])
	if data == elf.ELFDATA2MSB {
		machine = binary.BigEndian.Uint16(start[18:])
	}
	return machineName(elf.Machine(machine), data)
}

// OCIArchitecture turns a name as uname -m prints it into the name and variant that containers use (the GOARCH and GOARM of Go).
func OCIArchitecture(machine string) (arch, variant string) {
	switch machine {
	case "x86_64":
		return "amd64", ""
	case "i686", "i586", "i386":
		return "386", ""
	case "aarch64":
		return "arm64", ""
	case "armv7l":
		return "arm", "v7"
	case "armv6l":
		return "arm", "v6"
	case "loongarch64":
		return "loong64", ""
	}
	return machine, ""
}

// MachineOf is the reverse of [OCIArchitecture].
func MachineOf(arch, variant string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "386":
		return "i686"
	case "arm64":
		return "aarch64"
	case "arm":
		if variant == "v6" {
			return "armv6l"
		}
		return "armv7l"
	case "loong64":
		return "loongarch64"
	}
	return arch
}

// OSRelease returns the fields of os-release(5), such as ID and VERSION_ID. It is empty if the tree has no such file.
func OSRelease(tree *layers.Tree) (map[string]string, error) {
	fields := map[string]string{}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := readText(tree, name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && !strings.HasPrefix(key, "#") {
				fields[key] = unquote(value)
			}
		}
		if len(fields) > 0 {
			break
		}
	}
	return fields, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	return strings.NewReplacer(`\"`, `"`, `\$`, `$`, `\\`, `\`, "\\`", "`").Replace(s)
}

// Distribution names the tree's distribution and its version, such as "debian 12", or "" if it does not say.
func Distribution(tree *layers.Tree) (string, error) {
	fields, err := OSRelease(tree)
	return strings.TrimSpace(fields["ID"] + " " + fields["VERSION_ID"]), err
}

// PackageDatabases returns which package databases the tree holds: dpkg, rpm, apk, pacman.
func PackageDatabases(tree *layers.Tree) []string {
	var found []string
	for _, db := range []struct{ name, path string }{
		{"dpkg", "var/lib/dpkg/status"}, {"dpkg", "var/lib/dpkg/status.d"},
		{"rpm", "usr/lib/sysimage/rpm"}, {"rpm", "var/lib/rpm"},
		{"apk", "lib/apk/db/installed"}, {"pacman", "var/lib/pacman/local"},
	} {
		_, node, err := tree.Resolve(db.path)
		if err != nil || node.IsDir() && node.Len() == 0 || slices.Contains(found, db.name) {
			continue
		}
		found = append(found, db.name)
	}
	return found
}

// Accounts are the numeric ids of a tree's users and groups by name.
type Accounts struct {
	Users, Groups map[string]uint32
}

// ReadAccounts reads /etc/passwd and /etc/group. Lines that make no sense are left out.
func ReadAccounts(tree *layers.Tree) (Accounts, error) {
	users, err := readIDs(tree, "etc/passwd")
	if err != nil {
		return Accounts{}, err
	}
	groups, err := readIDs(tree, "etc/group")
	return Accounts{users, groups}, err
}

func readIDs(tree *layers.Tree, name string) (map[string]uint32, error) {
	data, err := readText(tree, name)
	if err != nil {
		return nil, err
	}
	ids := map[string]uint32{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			ids[fields[0]] = uint32(id)
		}
	}
	return ids, nil
}

// Clash is an account that means different things in two trees.
type Clash struct {
	Database string `json:"database"` // passwd or group
	Name     string `json:"name"`     // of the account that lost its meaning
	Was      uint32 `json:"was"`      // its id in the earlier tree
	// Now is its id in the later tree. If the name is not there at all, Now equals Was and Taken is the other name that has the id now.
	Now   uint32 `json:"now"`
	Taken string `json:"taken,omitempty"`
}

// Compare returns the accounts of earlier whose files would have another owner with the accounts of later.
func (earlier Accounts) Compare(later Accounts) []Clash {
	return append(compareIDs("passwd", earlier.Users, later.Users), compareIDs("group", earlier.Groups, later.Groups)...)
}

func compareIDs(database string, earlier, later map[string]uint32) []Clash {
	owner := map[uint32]string{}
	for _, name := range slices.Sorted(maps.Keys(later)) {
		if _, ok := owner[later[name]]; !ok {
			owner[later[name]] = name
		}
	}
	var clashes []Clash
	for _, name := range slices.Sorted(maps.Keys(earlier)) {
		was := earlier[name]
		now, ok := later[name]
		switch {
		case ok && now != was:
			clashes = append(clashes, Clash{Database: database, Name: name, Was: was, Now: now})
		case !ok && owner[was] != "":
			clashes = append(clashes, Clash{Database: database, Name: name, Was: was, Now: was, Taken: owner[was]})
		}
	}
	return clashes
}

// readText reads a text file of the tree; a missing one is empty.
func readText(tree *layers.Tree, name string) ([]byte, error) {
	data, err := tree.ReadFile(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
