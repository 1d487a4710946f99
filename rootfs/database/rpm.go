package database

import (
	"crypto"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
)

// rpmReader reads rpm's database.
type rpmReader struct {
	tree     *layers.Tree
	packages []rpm.Package // without keys
	keys     []rpm.Package
	names    nameSet
}

func openRPM(tree *layers.Tree) (reader, error) {
	if dir, _ := rpm.Find(tree); dir == "" {
		return nil, nil
	}
	all, err := rpm.Installed(tree)
	if err != nil {
		return nil, err
	}
	r := &rpmReader{tree: tree}
	for _, p := range all {
		if p.IsKey() {
			r.keys = append(r.keys, p)
		} else {
			r.packages = append(r.packages, p)
		}
	}
	return r, nil
}

func (r *rpmReader) installed() []Package {
	list := make([]Package, 0, len(r.packages))
	for _, p := range r.packages {
		list = append(list, Package{
			Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch, DistURL: p.DistURL, License: p.License, Source: sourceName(p.SourceRPM),
		})
	}
	return list
}

// sourceName is the name in the name of a source package's file, NAME-VERSION-RELEASE.src.rpm.
func sourceName(file string) string {
	for range 2 {
		i := strings.LastIndexByte(file, '-')
		if i < 0 {
			return file
		}
		file = file[:i]
	}
	return file
}

// has knows names, NAME.ARCH, NAME-VERSION, NAME-VERSION-RELEASE, NAME-VERSION-RELEASE.ARCH, and what is provided.
func (r *rpmReader) has(name string) bool {
	if r.names == nil {
		r.names = nameSet{}
		for _, p := range r.packages {
			full := p.Name + "-" + p.Version + "-" + p.Release
			r.names.add(p.Name, p.Name+"."+p.Arch, p.Name+"-"+p.Version, full, full+"."+p.Arch)
			r.names.add(p.Provides()...)
		}
	}
	if r.names.has(name) {
		return true
	}
	path, absolute := strings.CutPrefix(name, "/")
	if !absolute {
		return false
	}
	return slices.ContainsFunc(r.packages, func(p rpm.Package) bool {
		return slices.ContainsFunc(p.Files(), func(f rpm.File) bool { return f.Path == layers.Clean(path) })
	})
}

// lines have the keys that rpm trusts among them.
func (r *rpmReader) lines() []string {
	var list []string
	for _, p := range slices.Concat(r.packages, r.keys) {
		list = append(list, fields("(none)", p.Name, p.Epoch, p.Version, p.Release, p.Arch, p.DistURL, p.License))
	}
	return list
}

// algorithm is the hash of a package's digests, 0 if it is not known here.
func algorithm(p rpm.Package) crypto.Hash {
	switch p.DigestAlgorithm() { // RFC 9580, section 9.5
	case 1:
		return crypto.MD5
	case 2:
		return crypto.SHA1
	case 8:
		return crypto.SHA256
	case 9:
		return crypto.SHA384
	case 10:
		return crypto.SHA512
	case 11:
		return crypto.SHA224
	}
	return 0
}

func (r *rpmReader) wants(ask func(want)) error {
	for _, p := range r.packages {
		hash := algorithm(p)
		for _, f := range p.Files() {
			if f.Digest == "" || hash == 0 {
				continue
			}
			if _, node, err := r.tree.ResolveParent(f.Path); err == nil && node != nil && node.IsRegular() {
				ask(want{node: node, digest: hash})
			}
		}
	}
	return nil
}

func (r *rpmReader) changelog(_ *Survey, i int) ([]byte, error) {
	return []byte(r.packages[i].Changelog()), nil
}

func (r *rpmReader) claims(_ *Survey, i int) ([]claim, error) {
	p := r.packages[i]
	hash := algorithm(p)
	var list []claim
	for _, f := range p.Files() {
		if f.State == rpm.StateNetShared || f.State == rpm.StateNotInstalled {
			continue
		}
		c := claim{
			path: f.Path, attribute: attribute(f.Flags), mayMiss: f.Flags&(rpm.FlagGhost|rpm.FlagMissingOK) != 0,
			mode: f.Mode, permMask: layers.TypeMask | layers.PermMask, size: f.Size, digest: f.Digest, algorithm: hash, target: f.Target,
			major: f.RDev >> 8, minor: f.RDev & 0xff, user: f.User, group: f.Group, mtime: f.MTime, caps: f.Caps,
		}
		if f.Flags&rpm.FlagGhost != 0 {
			c.permMask = layers.PermMask
		}
		if _, node, err := r.tree.ResolveParent(f.Path); err == nil && node != nil {
			c.checks = rpmChecks(f, hash) & forType(node)
		}
		list = append(list, c)
	}
	return list, nil
}

// attribute is the letter for the kind of a file (rpm(8), VERIFY OPTIONS).
func attribute(flags rpm.FileFlags) byte {
	for _, one := range []struct {
		flag   rpm.FileFlags
		letter byte
	}{{rpm.FlagConfig, 'c'}, {rpm.FlagDoc, 'd'}, {rpm.FlagGhost, 'g'}, {rpm.FlagLicense, 'l'}, {rpm.FlagReadme, 'r'}, {rpm.FlagArtifact, 'a'}} {
		if flags&one.flag != 0 {
			return one.letter
		}
	}
	return ' '
}

// rpmChecks are the checks that the package wants of a file in this state.
func rpmChecks(f rpm.File, hash crypto.Hash) (c checks) {
	for _, one := range []struct {
		verify uint32
		check  checks
	}{
		{rpm.VerifyDigest, checkDigest}, {rpm.VerifySize, checkSize}, {rpm.VerifyTarget, checkTarget}, {rpm.VerifyUser, checkUser}, {rpm.VerifyGroup, checkGroup},
		{rpm.VerifyMTime, checkTime}, {rpm.VerifyMode, checkMode}, {rpm.VerifyDevice, checkDevice}, {rpm.VerifyCaps, checkCaps},
	} {
		if f.Verify&one.verify != 0 {
			c |= one.check
		}
	}
	content := checkDigest | checkSize | checkTime
	switch {
	case f.State == rpm.StateReplaced:
		return 0
	case f.State == rpm.StateWrongColor:
		c &^= content | checkDevice
	case f.Flags&rpm.FlagGhost != 0:
		c &^= content | checkTarget
	}
	if hash == 0 {
		c &^= checkDigest
	}
	return c
}
