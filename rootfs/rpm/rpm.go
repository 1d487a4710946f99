// Package rpm reads the database of installed packages that rpm keeps in a root tree, in each form that it has had, without running anything.
package rpm

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/layers"
)

// maxDatabase bounds the database of a tree from a stranger, in bytes.
const maxDatabase = 2 << 30

// keyPackage is the name of the entries that are no packages but the keys that rpm trusts.
const keyPackage = "gpg-pubkey"

// Dirs are where distributions have the database, as trees name it: Fedora and SUSE below /usr, all others in /var.
func Dirs() []string { return []string{"usr/lib/sysimage/rpm", "var/lib/rpm"} }

// form is one form of the database.
type form struct {
	file string
	read func(data, log []byte, each func([]byte) error) error
}

func forms() []form {
	return []form{
		{"rpmdb.sqlite", readSQLite},
		{"Packages.db", func(data, _ []byte, each func([]byte) error) error { return readNDB(data, each) }},
		{"Packages", func(data, _ []byte, each func([]byte) error) error { return readBDB(data, each) }},
	}
}

// Find returns the directory of the tree's database, as trees name it, and the database's file in it; "" if there is none.
func Find(tree *layers.Tree) (dir, file string) {
	for _, dir := range Dirs() {
		for _, f := range forms() {
			if _, node, err := tree.Resolve(dir + "/" + f.file); err == nil && node.IsRegular() && node.Size > 0 {
				return dir, f.file
			}
		}
	}
	return "", ""
}

// Package is an installed package.
type Package struct {
	Name, Version, Release, Arch string
	Epoch                        string // "" is none
	Vendor, License, DistURL     string
	SourceRPM                    string // file name of the source package
	Size                         int64  // of the installed files, bytes
	header                       header
}

// IsKey reports whether it is no package but a key that rpm trusts.
func (p Package) IsKey() bool { return p.Name == keyPackage }

// EVR is [EPOCH:]VERSION-RELEASE.
func (p Package) EVR() string {
	text := p.Version + "-" + p.Release
	if p.Epoch != "" {
		text = p.Epoch + ":" + text
	}
	return text
}

// Provides are the names that the package has or provides.
func (p Package) Provides() []string { return p.header.texts(tagProvideName) }

// Changelog is the package's change log as rpm prints it: the newest entry first, with an empty line after each.
func (p Package) Changelog() string {
	times, names, texts := p.header.numbers(tagChangelogTime), p.header.texts(tagChangelogName), p.header.texts(tagChangelogText)
	var out strings.Builder
	for i := range min(len(times), len(names), len(texts)) {
		day := time.Unix(int64(uint32(times[i])), 0).UTC().Format("Mon Jan 02 2006")
		fmt.Fprintf(&out, "* %s %s\n%s\n\n", day, names[i], texts[i])
	}
	return out.String()
}

// Installed returns the tree's packages, sorted by name, architecture and age of installation. A tree without a database has none.
func Installed(tree *layers.Tree) ([]Package, error) {
	dir, file := Find(tree)
	if dir == "" {
		return nil, nil
	}
	name := dir + "/" + file
	data, log, err := readDatabase(tree, name)
	if err != nil {
		return nil, fmt.Errorf("reading the package database: %w", err)
	}
	packages, err := read(file, data, log)
	if err != nil {
		return nil, fmt.Errorf("reading the package database /%s: %w", name, err)
	}
	return packages, nil
}

// readDatabase reads the file of a database and the write-ahead log beside it, which only SQLite has.
func readDatabase(tree *layers.Tree, name string) (data, log []byte, err error) {
	if data, err = tree.ReadFile(name, maxDatabase); err != nil {
		return nil, nil, err
	}
	if log, err = tree.ReadFile(name+"-wal", maxDatabase); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return data, log, nil
}

// read reads the database that has this file name.
func read(file string, data, log []byte) ([]Package, error) {
	var packages []Package
	err := eachHeader(file, data, log, func(blob []byte) error {
		h, err := parseHeader(blob)
		if err != nil {
			return err
		}
		packages = append(packages, newPackage(h))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(packages, func(a, b Package) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch)) })
	return packages, nil
}

// eachHeader calls fn with the header of every package of the database that has this file name.
func eachHeader(file string, data, log []byte, fn func(blob []byte) error) error {
	left := 2*int64(len(data)+len(log)) + 1<<20 // hostile databases have the same bytes in package after package
	each := func(blob []byte) error {
		if left -= int64(len(blob)); left < 0 {
			return errors.New("its packages are larger than itself")
		}
		return fn(blob)
	}
	for _, f := range forms() {
		if f.file == file {
			return f.read(data, log, each)
		}
	}
	return nil
}

func newPackage(h header) Package {
	p := Package{
		Name: h.text(tagName), Version: h.text(tagVersion), Release: h.text(tagRelease), Arch: h.text(tagArch), Vendor: h.text(tagVendor), License: h.text(tagLicense),
		DistURL: h.text(tagDistURL), SourceRPM: h.text(tagSourceRPM), header: h,
	}
	if epoch, ok := h.number(tagEpoch); ok {
		p.Epoch = fmt.Sprint(epoch)
	}
	size, ok := h.number(tagLongSize)
	if !ok {
		size, _ = h.number(tagSize)
	}
	p.Size = int64(size)
	return p
}

// File is what a package says of one of its files.
type File struct {
	Path        string // as trees name it
	Mode        uint32 // st_mode
	Size        int64  // bytes
	MTime       int64  // seconds
	RDev        uint32 // major and minor number in the old form, of 8 bits each
	Digest      string // lower-case hexadecimal, "" if there is none
	Target      string // of a symbolic link
	User, Group string // names
	Caps        string // capabilities(7) as text, "" if there are none
	Flags       FileFlags
	Verify      uint32 // what counts when it is verified: the Verify constants
	State       int8   // whether it was installed: the State constants
}

// FileFlags say what kind of a file it is (rpm's rpmfileAttrs).
type FileFlags uint32

// Kinds of files.
const (
	FlagConfig    FileFlags = 1 << 0
	FlagDoc       FileFlags = 1 << 1
	FlagMissingOK FileFlags = 1 << 3
	FlagGhost     FileFlags = 1 << 6
	FlagLicense   FileFlags = 1 << 7
	FlagReadme    FileFlags = 1 << 8
	FlagArtifact  FileFlags = 1 << 12
)

// What of a file is verified (rpm's rpmVerifyAttrs).
const (
	VerifyDigest = 1 << 0
	VerifySize   = 1 << 1
	VerifyTarget = 1 << 2
	VerifyUser   = 1 << 3
	VerifyGroup  = 1 << 4
	VerifyMTime  = 1 << 5
	VerifyMode   = 1 << 6
	VerifyDevice = 1 << 7
	VerifyCaps   = 1 << 8
)

// States of a file (rpm's rpmfileState).
const (
	StateNormal       = 0
	StateReplaced     = 1 // by another package
	StateNotInstalled = 2
	StateNetShared    = 3
	StateWrongColor   = 4 // another architecture's file is in its place
)

// DigestAlgorithm is the OpenPGP number (RFC 9580, section 9.5) of the algorithm of the digests of the package's files.
func (p Package) DigestAlgorithm() int {
	if n, ok := p.header.number(tagFileDigestAlg); ok {
		return int(n)
	}
	return 1 // MD5, as in the first packages
}

// Files are the package's files, in its order. What the header lacks of a file is zero, what it must have ends the list.
func (p Package) Files() []File {
	h := p.header
	base, dirs, dirOf := h.texts(tagBaseNames), h.texts(tagDirNames), h.numbers(tagDirIndexes)
	modes, mtimes, devices := h.numbers(tagFileModes), h.numbers(tagFileMTimes), h.numbers(tagFileRDevs)
	sizes := h.numbers(tagLongFileSizes)
	if sizes == nil {
		sizes = h.numbers(tagFileSizes)
	}
	digests, targets, users, groups, caps := h.texts(tagFileDigests), h.texts(tagFileLinkTos), h.texts(tagFileUser), h.texts(tagFileGroup), h.texts(tagFileCaps)
	flags, verify, states := h.numbers(tagFileFlags), h.numbers(tagFileVerify), h.bytes(tagFileStates)
	list := make([]File, 0, len(base))
	for i := range min(len(base), len(dirOf), len(modes)) {
		if dirOf[i] >= uint64(len(dirs)) {
			break
		}
		f := File{
			Path: layers.Clean(dirs[dirOf[i]] + base[i]), Mode: uint32(modes[i]), Size: int64(at(sizes, i)), MTime: int64(at(mtimes, i)), RDev: uint32(at(devices, i)),
			Digest: at(digests, i), Target: at(targets, i), User: at(users, i), Group: at(groups, i), Caps: at(caps, i), Flags: FileFlags(at(flags, i)),
			Verify: ^uint32(0), State: int8(at(states, i)),
		}
		if i < len(verify) {
			f.Verify = uint32(verify[i])
		}
		list = append(list, f)
	}
	return list
}

// at is an element of a list, zero where the list is shorter.
func at[T any](list []T, i int) (value T) {
	if i < len(list) {
		value = list[i]
	}
	return value
}
