package apt

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/rootfs/deb"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// unpackRoot makes the tree from the package that brings one as a tar archive (bootstrap_package), as /var/lib/bootstrap/NAME.ARCH.tar.xz.
func (s *session) unpackRoot(ctx context.Context) error {
	name := s.Image.Packages.BootstrapPackage
	fail := func(hint string, err error) error {
		return s.Image.Errorf("packages", hint, "the bootstrap package %s: %v", name, err)
	}
	t := task{place: bare, bootstrap: true}
	downloads, _, err := s.resolve(ctx, t, "download", name)
	if err != nil {
		return fail("", err)
	}
	if len(downloads) != 1 {
		return fail("check its name", errors.New("no repository has it"))
	}
	if err := s.fetch(ctx, t, downloads, "install", name); err != nil {
		return fail("", err)
	}
	file := s.path(downloads[0])
	if err := verify(file, downloads[0]); err != nil {
		return fail("", err)
	}
	root, err := s.rootArchive(ctx, file, name)
	if err != nil {
		return fail("it has to bring /var/lib/bootstrap/"+name+"."+s.Arch+".tar.xz", err)
	}
	spec := s.spec(t, "tar", "--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--directory", packages.TargetDir, "--file", insideDir+"/"+root)
	if err := s.Outside(ctx, spec); err != nil {
		return fail("", err)
	}
	s.remember(downloads)
	return os.Remove(filepath.Join(s.dir, root))
}

// rootArchive copies the archive of the tree out of a package into the session's directory, and returns its name there.
func (s *session) rootArchive(ctx context.Context, file, name string) (_ string, err error) {
	a, err := deb.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	data, err := a.Data(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	base := name + "." + s.Arch + ".tar.xz"
	wanted := []string{"/var/lib/bootstrap/" + base, "/var/cache/kiwi/bootstrap/" + base}
	for archive := tar.NewReader(data); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("there is no file %s in it", wanted[0])
		}
		if err != nil {
			return "", err
		}
		if !slices.Contains(wanted, path.Clean("/"+header.Name)) || header.Typeflag != tar.TypeReg {
			continue
		}
		out, err := os.Create(filepath.Join(s.dir, "root.tar.xz"))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(out, ctxio.Reader(ctx, archive))
		return "root.tar.xz", errors.Join(err, out.Close())
	}
}
