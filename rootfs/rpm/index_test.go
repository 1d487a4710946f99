package rpm

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
)

func TestReadIndex(t *testing.T) {
	testenv.NeedPrograms(t, "rpmbuild", "createrepo_c")
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: samples()})
	info, err := os.Stat(filepath.Join(repo, "full-1.2-4.noarch.rpm"))
	must(t, err)
	for _, compression := range []string{"gz", "xz", "bz2", "none"} {
		if compression != "none" {
			testenv.Run(t, "createrepo_c", "--quiet", "--general-compress-type", compression, repo)
		} else {
			testenv.Run(t, "sh", "-ec", "cd "+repo+"/repodata; bunzip2 *-primary.xml.bz2; sed -i s/primary.xml.bz2/primary.xml/ repomd.xml")
		}
		var list []Available
		must(t, ReadIndex(repo, func(a Available) { list = append(list, a) }))
		slices.SortFunc(list, func(a, b Available) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		if len(list) != 2 || len(list[0].Checksum) != 64 {
			t.Fatalf("%s: %+v", compression, list)
		}
		list[0].Checksum = ""
		want := Available{
			Name: "full", Arch: "noarch", Epoch: "3", Version: "1.2", Release: "4", ChecksumType: "sha256", Location: "full-1.2-4.noarch.rpm", Download: info.Size(), Installed: list[0].Installed,
		}
		if diff := cmp.Diff(want, list[0]); diff != "" || want.Installed < 20000 {
			t.Errorf("%s: %s", compression, diff)
		}
		if list[1].EVR() != "7-1" {
			t.Errorf("%s: %+v", compression, list[1])
		}
	}
	if err := ReadIndex(t.TempDir(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an index: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	testenv.NeedPrograms(t, "rpm", "rpmbuild", "rpmsign")
	dir := t.TempDir()
	key := testrepos.NewKey(t, "one")
	for _, sample := range samples() {
		file := testrepos.BuildRPM(t, dir, sample)
		key.SignRPM(t, file)
		p, err := ReadFile(file)
		must(t, err)
		want := testenv.Run(t, "rpm", "--dbpath", filepath.Join(dir, "db"), "-qp", "--nosignature", "--qf", "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH} %{SIZE}", file)
		if got := p.Name + " " + p.EVR() + " " + p.Arch; want[:len(got)] != got || p.Size < 0 {
			t.Errorf("%q, and rpm says %q", got, want)
		}
	}
	if _, err := ReadFile("/etc/hostname"); err == nil {
		t.Error("that is no package")
	}
	if _, err := ReadFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x03\xe8\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x01name\x00"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		h, err := parseHeader(blob)
		if err != nil {
			return
		}
		p := newPackage(h)
		p.Files()
		p.Provides()
		p.Changelog()
	})
}

func FuzzDatabases(f *testing.F) {
	small := []byte("\x00\x00\x00\x00\x00\x00\x00\x00")
	f.Add("Packages.db", encodeNDB([][]byte{small, small}), []byte(nil))
	f.Add("rpmdb.sqlite", []byte(sqliteMagic), []byte("\x37\x7f\x06\x82"))
	f.Add("Packages", make([]byte, 600), []byte(nil))
	f.Fuzz(func(t *testing.T, name string, data, log []byte) {
		_, _ = read(name, data, log) // it must end, and not panic
	})
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(leadMagic), []byte("<metadata><package><name>x</name></package></metadata>"))
	f.Fuzz(func(t *testing.T, file, list []byte) {
		_, _ = readPackage(bytes.NewReader(file))
		_ = readPrimary(bytes.NewReader(list), func(Available) {})
	})
}
