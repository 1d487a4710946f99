package rpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// samples are packages with everything that is read of them.
func samples() []testrepos.RPM {
	return []testrepos.RPM{
		{
			Name: "full", Epoch: "3", Version: "1.2", Release: "4", Requires: []string{"plain"}, Provides: []string{"virtual = 5"}, Preamble: "Vendor: The maker\nDistribution: Test",
			Files: []testrepos.File{
				{Path: "/etc/full.conf", Content: "x=1\n", Attr: "%config(noreplace)"}, {Path: "/usr/share/doc/full", Content: "words\n", Attr: "%doc"}, {Path: "/usr/share/full/", Mode: 0o750},
				{Path: "/usr/share/full/link", Link: "file"}, {Path: "/usr/share/full/file", Content: strings.Repeat("text", 5000), Mode: 0o600}, {Path: "/var/log/full", Attr: "%ghost"},
			},
			Changelog: "* Mon Jan 01 2024 A Person <a@example.org> - 1.2-4\n- First.\n* Sun Dec 31 2023 Another <b@example.org>\n- Before.\n- Zeroth.",
		},
		{Name: "plain", Version: "7", Changelog: "* Tue Jan 02 2024 A Person <a@example.org>\n- " + strings.Repeat("A long text. ", 700)},
	}
}

// newRoot installs the samples into a directory with the real rpm, and returns it.
func newRoot(t *testing.T, dbpath string) string {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "rpm", "rpmbuild")
	return install(t, buildSamples(t), dbpath)
}

// buildSamples returns the files of the samples' packages.
func buildSamples(t *testing.T) (files []string) {
	t.Helper()
	repo := t.TempDir()
	for _, p := range samples() {
		files = append(files, testrepos.BuildRPM(t, repo, p))
	}
	return files
}

// install installs packages into a new directory with the real rpm.
func install(t *testing.T, files []string, dbpath string) string {
	t.Helper()
	root := t.TempDir()
	testenv.Run(t, "rpm", append([]string{"--root", root, "--dbpath", dbpath, "--nosignature", "-i"}, files...)...)
	return root
}

func scan(t *testing.T, root string) *layers.Tree {
	t.Helper()
	tree, _, err := layers.ScanDir(t.Context(), root, layers.ScanOptions{})
	must(t, err)
	return tree
}

// queryFormat makes rpm print what text prints.
const queryFormat = `%{NAME}|%|EPOCH?{%{EPOCH}}:{}||%{VERSION}|%{RELEASE}|%{ARCH}|%|VENDOR?{%{VENDOR}}:{}||%{LICENSE}|%{SOURCERPM}|%{SIZE}\n` +
	`[%{FILENAMES} %{FILEMODES} %{FILESIZES} %{FILEMTIMES} %{FILEMD5S} %{FILELINKTOS} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEFLAGS} %{FILEVERIFYFLAGS} %{FILESTATES}\n]` +
	`[* %{CHANGELOGTIME:day} %{CHANGELOGNAME}\n%{CHANGELOGTEXT}\n\n]`

func text(list []Package) string {
	var out strings.Builder
	for _, p := range list {
		fmt.Fprintf(&out, "%s|%s|%s|%s|%s|%s|%s|%s|%d\n", p.Name, p.Epoch, p.Version, p.Release, p.Arch, p.Vendor, p.License, p.SourceRPM, p.Size)
		for _, f := range p.Files() {
			fmt.Fprintf(&out, "/%s %d %d %d %s %s %s %s %d %d %d\n", f.Path, f.Mode, f.Size, f.MTime, f.Digest, f.Target, f.User, f.Group, f.Flags, f.Verify, f.State)
		}
		out.WriteString(p.Changelog())
	}
	return out.String()
}

// TestRealDatabase reads what the real rpm has written, which stands partly in its write-ahead log, and compares it with what rpm says.
func TestRealDatabase(t *testing.T) {
	for _, dbpath := range []string{VarPath, SystemPath} {
		root := newRoot(t, dbpath)
		want := testenv.Run(t, "rpm", "--root", root, "--dbpath", dbpath, "-q", "full", "plain", "--qf", queryFormat)
		list, err := Installed(scan(t, root))
		must(t, err)
		if diff := cmp.Diff(want, text(list)); diff != "" {
			t.Error(diff)
		}
		if got := strings.Join(list[0].Provides(), " "); got != "config(full) full virtual" && got != "full virtual" {
			t.Errorf("provides %q", got)
		}
		if list[0].EVR() != "3:1.2-4" || list[1].EVR() != "7-1" {
			t.Errorf("%s, %s", list[0].EVR(), list[1].EVR())
		}
		if got := DatabasePath(scan(t, root), "/else"); got != dbpath {
			t.Errorf("the database is at %s and not at %s", got, dbpath)
		}
	}
}

// blobs are the headers of a real database, as rpm has them there.
func blobs(t *testing.T) [][]byte {
	t.Helper()
	root := newRoot(t, VarPath)
	dir := filepath.Join(root, VarPath)
	data, err := os.ReadFile(filepath.Join(dir, "rpmdb.sqlite"))
	must(t, err)
	log, err := os.ReadFile(filepath.Join(dir, "rpmdb.sqlite-wal"))
	must(t, err)
	var list [][]byte
	must(t, readSQLite(data, log, func(blob []byte) error {
		list = append(list, bytes.Clone(blob))
		return nil
	}))
	return list
}

// TestBerkeleyDB reads databases that the real Berkeley DB has written, in both byte orders.
func TestBerkeleyDB(t *testing.T) {
	testenv.NeedPrograms(t, "db5.3_load")
	list := blobs(t)
	list = append(list, bytes.Repeat([]byte{0}, 8)) // a header without anything, short enough for the page
	for _, order := range []string{"1234", "4321"} {
		var dump strings.Builder
		fmt.Fprintf(&dump, "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\ndb_lorder=%s\nHEADER=END\n 00000000\n 05000000\n", order)
		for i, blob := range list {
			fmt.Fprintf(&dump, " %02x000000\n %s\n", i+1, hex.EncodeToString(blob))
		}
		dump.WriteString("DATA=END\n")
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "dump"), []byte(dump.String()), 0o644))
		testenv.Run(t, "db5.3_load", "-f", filepath.Join(dir, "dump"), filepath.Join(dir, "Packages"))
		data, err := os.ReadFile(filepath.Join(dir, "Packages"))
		must(t, err)
		wantBlobs(t, list, func(each func([]byte) error) error { return readBDB(data, each) })
		packages, err := read("Packages", data, nil)
		if err != nil || len(packages) != 3 || packages[1].Name != "full" {
			t.Errorf("%+v, %v", packages, err)
		}
	}
}

// wantBlobs compares blobs in any order.
func wantBlobs(t *testing.T, want [][]byte, read func(each func([]byte) error) error) {
	t.Helper()
	left := map[string]int{}
	for _, blob := range want {
		left[string(blob)]++
	}
	err := read(func(blob []byte) error {
		left[string(blob)]--
		return nil
	})
	must(t, err)
	for blob, n := range left {
		if n != 0 {
			t.Errorf("a blob of %d bytes was read %d times too few", len(blob), n)
		}
	}
}

// encodeNDB writes a database of rpm's own form, as its documentation in lib/backend/ndb/rpmpkg.c has it.
func encodeNDB(blobs [][]byte) []byte {
	order := binary.LittleEndian
	data := make([]byte, ndbPageSize)
	copy(data, ndbMagic)
	order.PutUint32(data[12:], 1)
	for i := ndbHeadSize; i < ndbPageSize; i += ndbSlotSize {
		copy(data[i:], ndbSlotMagic)
	}
	for i, blob := range blobs {
		slot := data[ndbHeadSize+(2*i+1)*ndbSlotSize:] // with free ones between
		order.PutUint32(slot[4:], uint32(i+1))
		order.PutUint32(slot[8:], uint32(len(data)/ndbBlock))
		head := make([]byte, ndbBlobHead)
		copy(head, ndbBlobMagic)
		order.PutUint32(head[4:], uint32(i+1))
		order.PutUint32(head[12:], uint32(len(blob)))
		tail := make([]byte, 12) // check sum, length, magic
		copy(tail[8:], "BlbE")
		data = append(append(append(data, head...), blob...), tail...)
		data = append(data, make([]byte, -len(data)&(ndbBlock-1))...)
	}
	return data
}

func TestNDB(t *testing.T) {
	list := blobs(t)
	packages, err := read("Packages.db", encodeNDB(list), nil)
	if err != nil || len(packages) != 2 || packages[0].Name != "full" || len(packages[0].Files()) != 6 {
		t.Errorf("%+v, %v", packages, err)
	}
}

// TestRandomSQLite has the real SQLite write tables of random blobs with all sizes of pages, committed to the file or left in the log.
func TestRandomSQLite(t *testing.T) {
	testenv.NeedPrograms(t, "sqlite3")
	random := rand.New(rand.NewPCG(1, 2))
	for size := 512; size <= 65536; size *= 4 {
		for _, inLog := range []bool{false, true} {
			var script strings.Builder
			fmt.Fprintf(&script, "PRAGMA page_size=%d;\nPRAGMA journal_mode=WAL;\nCREATE TABLE Other(a TEXT);\nCREATE TABLE Packages(hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\n", size)
			if inLog {
				script.WriteString(".dbconfig no_ckpt_on_close on\nPRAGMA wal_autocheckpoint=0;\n")
			}
			var want [][]byte
			for i := range 30 {
				blob := make([]byte, random.IntN(1<<random.IntN(15)+1))
				for j := range blob {
					blob[j] = byte(random.Uint32())
				}
				fmt.Fprintf(&script, "INSERT INTO Packages VALUES (%d, X'%x');\nINSERT INTO Other VALUES ('x');\n", i*i+1, blob)
				if i%7 == 3 {
					fmt.Fprintf(&script, "DELETE FROM Packages WHERE hnum=%d;\n", i*i+1)
					continue
				}
				want = append(want, blob)
			}
			name := filepath.Join(t.TempDir(), "db")
			must(t, os.WriteFile(name+".sql", []byte(script.String()), 0o644))
			testenv.Run(t, "sh", "-ec", "sqlite3 "+name+" < "+name+".sql")
			data, err := os.ReadFile(name)
			must(t, err)
			log, err := os.ReadFile(name + "-wal")
			if (err == nil && len(log) > 0) != inLog {
				t.Fatalf("the log has %d bytes, %v", len(log), err)
			}
			var got [][]byte
			must(t, readSQLite(data, log, func(blob []byte) error {
				got = append(got, bytes.Clone(blob))
				return nil
			}))
			if len(got) != len(want) {
				t.Fatalf("pages of %d, log %v: %d rows of %d", size, inLog, len(got), len(want))
			}
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("pages of %d, log %v: row %d differs", size, inLog, i)
				}
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	for file, data := range map[string][]byte{
		"rpmdb.sqlite": []byte("SQLite format 3\x00" + strings.Repeat("\x02", 1000)), "Packages.db": []byte("RpmP" + strings.Repeat("\xff", 5000)), "Packages": bytes.Repeat([]byte("x"), 9000),
	} {
		edit := layers.NewTree().Edit(layers.Timespec{})
		must(t, edit.WriteFile("var/lib/rpm/"+file, data, 0o644))
		if _, err := Installed(edit.Tree()); err == nil || !strings.Contains(err.Error(), "/var/lib/rpm/"+file) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if list, err := Installed(layers.NewTree()); list != nil || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestMacros(t *testing.T) {
	testenv.NeedPrograms(t, "rpm")
	dir := t.TempDir()
	text := Macros("/some/where", description.RPMSettings{LocaleFiltering: true, ExcludeDocs: true}, []string{"de_DE", "POSIX"})
	must(t, os.WriteFile(filepath.Join(dir, ".rpmmacros"), []byte(text), 0o644))
	got := testenv.Run(t, "env", "HOME="+dir, "rpm", "--eval", "%_dbpath %_install_langs %_excludedocs %_netsharedpath")
	if want := "/some/where POSIX:C:C.UTF-8:de_DE 1 /dev:/proc:/sys\n"; got != want {
		t.Errorf("%q", got)
	}
	if text := Macros("/x", description.RPMSettings{}, []string{"de_DE"}); strings.Contains(text, "lang") || strings.Contains(text, "docs") {
		t.Errorf("%q", text)
	}
}

// TestSettle moves a database to where another rpm, that of this machine, looks for it.
func TestSettle(t *testing.T) {
	root := newRoot(t, SystemPath)
	must(t, os.Rename(filepath.Join(root, "usr"), filepath.Join(root, "old"))) // the tree borrows this machine's /usr
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "var/lib", "root"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Rename(filepath.Join(root, "old/lib/sysimage/rpm"), filepath.Join(root, "var/lib/rpm")))
	for _, link := range []string{"bin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(root, link)))
	}
	edit := scan(t, root).Edit(layers.Timespec{})
	var opts SettleOptions
	opts = SettleOptions{Log: slog.New(slog.DiscardHandler), Tree: edit.Tree(), Inside: func(ctx context.Context, spec sandbox.Spec) error {
		spec.Root = root
		for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64"} {
			if _, err := os.Stat(dir); err == nil {
				spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
			}
		}
		return sandbox.Run(ctx, spec)
	}}
	must(t, Settle(t.Context(), opts))
	if dir, _ := Find(scan(t, root)); dir != "var/lib/rpm" {
		t.Error("the database of a tree without rpm was moved")
	}
	for _, name := range []string{"rpm", "rpmdb", "sh"} {
		must(t, edit.WriteFile("usr/bin/"+name, []byte("x"), 0o755))
	}
	opts.Tree = edit.Tree()
	must(t, Settle(t.Context(), opts))
	data, err := os.ReadFile(filepath.Join(root, "root/.rpmdb/rpmdb.sqlite"))
	must(t, err)
	log, err := os.ReadFile(filepath.Join(root, "root/.rpmdb/rpmdb.sqlite-wal"))
	must(t, err)
	list, err := read("rpmdb.sqlite", data, log)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/rpm")); err == nil {
		t.Error("the old database is still there")
	}
}

// TestDamagedAnywhere changes real databases at random: reading them must end, and not panic.
func TestDamagedAnywhere(t *testing.T) {
	testenv.NeedPrograms(t, "db5.3_load", "sqlite3")
	dir := t.TempDir()
	script := "sqlite3 db \"PRAGMA page_size=512; PRAGMA journal_mode=WAL;\" 'CREATE TABLE Packages(hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);' > /dev/null\n"
	dump := "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=512\nHEADER=END\n"
	var blobs [][]byte
	for i := range 30 {
		blob := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, uint32(i*100))
		blob = append(blob, make([]byte, i*100)...)
		blobs = append(blobs, blob)
		script += fmt.Sprintf("echo \"INSERT INTO Packages(blob) VALUES (X'%x');\" >> sql\n", blob)
		dump += fmt.Sprintf(" %02x000000\n %x\n", i+1, blob)
	}
	must(t, os.WriteFile(filepath.Join(dir, "dump"), []byte(dump+"DATA=END\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "script"), []byte(script+"(echo .dbconfig no_ckpt_on_close on; cat sql) | sqlite3 db > /dev/null\n"), 0o644))
	testenv.Run(t, "sh", "-ec", "cd "+dir+"; . ./script; db5.3_load -f dump Packages")
	file := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return data
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name      string
		data, log []byte
	}{
		{"rpmdb.sqlite", file("db"), file("db-wal")}, {"rpmdb.sqlite", file("db"), nil}, {"Packages", file("Packages"), nil}, {"Packages.db", encodeNDB(blobs), nil},
	} {
		whole, err := read(c.name, c.data, c.log)
		if err == nil && len(whole) != len(blobs) && c.log != nil {
			t.Errorf("%s has %d packages", c.name, len(whole))
		}
		for range 3000 {
			data, log := bytes.Clone(c.data), bytes.Clone(c.log)
			for range 1 + random.IntN(4) {
				place := data
				if len(log) > 0 && random.IntN(2) == 0 {
					place = log
				}
				place[random.IntN(min(len(place), 1<<(4+random.IntN(13))))] = byte(random.Uint32())
			}
			_, _ = read(c.name, data[:len(data)-random.IntN(2)*random.IntN(len(data))], log)
		}
	}
}

// TestRewrite makes two databases of the same packages, installed at different times, equal.
func TestRewrite(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "rpm", "rpmdb", "rpmbuild")
	var first []byte
	packages := buildSamples(t)
	for i := range 2 {
		root := install(t, packages, VarPath)
		tree := scan(t, root)
		before, err := Installed(tree)
		must(t, err)
		change, err := Rewrite(t.Context(), RewriteOptions{
			Tree: tree, Workdir: t.TempDir(), Time: time.Unix(1700000000, 0), Log: slog.New(slog.DiscardHandler),
			Outside: func(ctx context.Context, spec sandbox.Spec) error {
				spec.Root, spec.ReadOnlyRoot = "/", true
				return sandbox.Run(ctx, spec)
			},
		})
		must(t, err)
		edit := tree.Edit(layers.Timespec{})
		must(t, change(edit))
		tree = edit.Tree()
		_, dir, err := tree.Resolve("var/lib/rpm")
		must(t, err)
		if names := dir.Names(); len(names) != 1 {
			t.Errorf("the database is %q", names)
		}
		after, err := Installed(tree)
		must(t, err)
		if diff := cmp.Diff(text(before), text(after)); diff != "" {
			t.Error(diff)
		}
		data, err := tree.ReadFile("var/lib/rpm/rpmdb.sqlite", 1<<30)
		must(t, err)
		if i == 0 {
			first = data
			time.Sleep(1100 * time.Millisecond) // rpm counts in seconds
			continue
		}
		if !bytes.Equal(first, data) {
			t.Error("the databases differ")
		}
		written := filepath.Join(t.TempDir(), "db")
		must(t, os.Mkdir(written, 0o755))
		must(t, os.WriteFile(filepath.Join(written, "rpmdb.sqlite"), data, 0o644))
		if got := testenv.Run(t, "rpm", "--dbpath", written, "-qa", "--qf", "%{NAME} %{INSTALLTIME} %{INSTALLTID}\n"); got != "plain 1700000000 1700000000\nfull 1700000000 1700000000\n" {
			t.Errorf("rpm finds %q", got)
		}
	}
	if change, err := Rewrite(t.Context(), RewriteOptions{Tree: layers.NewTree()}); change != nil || err != nil {
		t.Errorf("%v", err)
	}
}

// TestCheckReadable asks this machine's rpm, which may not know the form that SUSE has.
func TestCheckReadable(t *testing.T) {
	list := blobs(t)
	for _, file := range []string{"Packages.db", "rpmdb.sqlite"} {
		root := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(root, VarPath), 0o755))
		must(t, os.WriteFile(filepath.Join(root, VarPath, file), encodeNDB(list), 0o644))
		err := CheckReadable(t.Context(), ReadableOptions{
			Tree: scan(t, root), Root: sandbox.TargetDir, Log: slog.New(slog.DiscardHandler),
			Run: func(ctx context.Context, spec sandbox.Spec) error {
				spec.Root, spec.ReadOnlyRoot, spec.Target = "/", true, root
				return sandbox.Run(ctx, spec)
			},
		})
		t.Logf("%s: %v", file, err)
		if err != nil && (file == "rpmdb.sqlite" || !strings.Contains(err.Error(), "has 2 packages") || !strings.Contains(err.Error(), "--builder")) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
