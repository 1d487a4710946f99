package description

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Checks of the files that a description names or brings along.

func fileChecks() []Check {
	return []Check{
		{ID: "description_files_exist", Reason: "A script or archive that is missing would be missed in the middle of a build.", find: findFiles},
		{ID: "script_files_runnable", Reason: "A script that can't be started would fail in the middle of a build.", find: findScripts},
		{ID: "archive_files_readable", Reason: "A file that is no archive would fail in the middle of a build.", find: findArchives},
	}
}

// ownPath returns the path of a file of the description as its file system
// has it, or "" for a name that stands for something elsewhere.
func ownPath(name string) string {
	name = strings.TrimPrefix(name, "this://")
	if name == "" || path.IsAbs(name) || strings.Contains(name, ":") {
		return ""
	}
	return path.Clean(name)
}

// namedFile is a file that an attribute of the description names.
type namedFile struct {
	origin Origin
	attr   string
	name   string
	// script says that it is run, archive that it is unpacked.
	script, archive bool
	// kept is its name in the /image of a root tree that KIWI has prepared,
	// where it is another one.
	kept string
}

// namedFiles returns the files of the description that its attributes name.
func namedFiles(img *Image) []namedFile {
	var list []namedFile
	for _, set := range []PackageSet{img.Packages.Bootstrap, img.Packages.System} {
		for _, a := range set.Archives {
			list = append(list, namedFile{origin: a.Origin, attr: "name", name: a.Name, archive: true, kept: path.Base(a.Name)})
		}
		for _, f := range set.Files {
			list = append(list, namedFile{origin: f.Origin, attr: "name", name: f.Name})
		}
	}
	for _, r := range img.Repositories {
		list = append(list, namedFile{origin: r.Origin, attr: "customize", name: r.Customize, script: true})
		for _, k := range r.SigningKeys {
			list = append(list, namedFile{origin: k.Origin, attr: "key", name: k.URI})
		}
	}
	t := &img.Type
	list = append(list,
		namedFile{origin: t.Origin, attr: "editbootconfig", name: t.EditBootConfig, script: true, kept: "edit_boot_config.sh"},
		namedFile{origin: t.Origin, attr: "editbootinstall", name: t.EditBootInstall, script: true, kept: "edit_boot_install.sh"},
		namedFile{origin: t.Origin, attr: "metadata_path", name: t.MetadataPath},
		namedFile{origin: t.Bootloader.Origin, attr: "grub_template", name: t.Bootloader.GrubTemplate})
	for _, s := range t.Bootloader.SecureLinux {
		list = append(list, namedFile{origin: s.Origin, attr: "hkd_ca_cert", name: s.CACert}, namedFile{origin: s.Origin, attr: "hkd_sign_cert", name: s.SignCert})
	}
	for _, box := range t.Vagrant {
		list = append(list, namedFile{origin: box.Origin, attr: "embedded_vagrantfile", name: box.EmbeddedVagrantfile})
	}
	return list
}

// findFiles looks for the files that the description names.
func findFiles(img *Image) (errs Errors) {
	if img.FS == nil {
		return nil
	}
	for _, f := range namedFiles(img) {
		name := ownPath(f.name)
		if name == "" {
			continue
		}
		if !fs.ValidPath(name) {
			errs.add(f.origin.At(f.attr), "put it beside "+img.File, "the file %q is not inside the description's directory", f.name)
			continue
		}
		_, err := fs.Stat(img.FS, name)
		if err != nil && img.Dir == "" && f.kept != "" {
			_, err = fs.Stat(img.FS, f.kept)
		}
		if err != nil {
			errs.add(f.origin.At(f.attr), "put it beside "+img.File+", or correct the name", "the file %q is missing: %v", name, rootCause(err))
		}
	}
	return errs
}

// ownScripts are scripts that run because they are there.
var ownScripts = []string{
	"post_bootstrap.sh", "config.sh", "images.sh", "config-overlay.sh", "config-host-overlay.sh", "pre_disk_sync.sh", "disk.sh",
}

func findScripts(img *Image) (errs Errors) {
	if img.FS == nil {
		return nil
	}
	for _, name := range ownScripts {
		if _, err := fs.Stat(img.FS, name); err == nil {
			if problem, hint := scriptProblem(img.FS, name); problem != "" {
				errs.add(start(path.Join(path.Dir(img.Pos.File), name)), hint, "%s", problem)
			}
		}
	}
	for _, f := range namedFiles(img) {
		name := ownPath(f.name)
		if !f.script || name == "" || !fs.ValidPath(name) {
			continue
		}
		if _, err := fs.Stat(img.FS, name); err != nil {
			continue // another check says that it is missing
		}
		if problem, hint := scriptProblem(img.FS, name); problem != "" {
			errs.add(f.origin.At(f.attr), hint, "%s: %s", f.name, problem)
		}
	}
	return errs
}

// scriptProblem returns why a file can't be run, and a remedy.
func scriptProblem(fsys fs.FS, name string) (problem, hint string) {
	head, err := readHead(fsys, name)
	if err != nil {
		return "the script can't be read: " + err.Error(), ""
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	interpreter, isScript := bytes.CutPrefix(line, []byte("#!"))
	switch {
	case len(head) == 0:
		return "the script is empty", "remove it"
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		return "the script begins with a byte order mark, which hides its first line", "save it as UTF-8 without one"
	case bytes.HasSuffix(line, []byte("\r")):
		return "the script has line ends of Windows", "convert it: sed -i 's/\\r$//' " + name
	case isScript && !bytes.HasPrefix(bytes.TrimLeft(interpreter, " \t"), []byte("/")):
		return "the script's first line names no program by its absolute path", "begin it with #!/bin/bash"
	}
	return "", ""
}

// readHead returns the first bytes of a regular file.
func readHead(fsys fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, rootCause(err)
	}
	if !st.Mode().IsRegular() {
		return nil, fs.ErrInvalid
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, rootCause(err)
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, rootCause(err)
	}
	return head, nil
}

// archiveMagic are the beginnings of archives that are unpacked, compressed or
// not; plain tar has its own at offset 257.
var archiveMagic = []string{"\x1f\x8b", "\xfd7zXZ\x00", "BZh", "\x28\xb5\x2f\xfd", "\x1f\x9d", "LZIP", "\x5d\x00\x00"}

func findArchives(img *Image) (errs Errors) {
	if img.FS == nil {
		return nil
	}
	for _, f := range namedFiles(img) {
		name := ownPath(f.name)
		if !f.archive || name == "" || !fs.ValidPath(name) {
			continue
		}
		if _, err := fs.Stat(img.FS, name); err != nil {
			continue // another check says that it is missing
		}
		head, err := readHead(img.FS, name)
		if err != nil {
			errs.add(f.origin.At(f.attr), "", "the archive %s can't be read: %v", f.name, err)
		} else if !isArchive(head) {
			errs.add(f.origin.At(f.attr), "make it with tar, compressed or not", "%s is not a tar archive", f.name)
		}
	}
	return errs
}

func isArchive(head []byte) bool {
	for _, magic := range archiveMagic {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	if len(head) < 512 {
		return false
	}
	// An old tar has no magic; its blocks hold a checksum in octal at 148.
	return bytes.Equal(head[257:262], []byte("ustar")) || len(bytes.Trim(head[148:156], " \x0001234567")) == 0 && len(bytes.Trim(head[148:156], "\x00 ")) > 0 ||
		len(bytes.Trim(head[:512], "\x00")) == 0
}
