package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testrepos"
)

// TestDocs runs the commands of the documents, a transcript a page. The registry that they speak of is one of the transcript's.
func TestDocs(t *testing.T) {
	testscript.Run(t, scripts(t, filepath.Join("testdata", "docs")))
}

// documented returns the commands of a page of the documents, from a heading on to the next one; "" is the whole page.
func documented(t *testing.T, page, heading string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	section := string(text)
	if heading != "" {
		var found bool
		if _, section, found = strings.Cut(section, "\n## "+heading+"\n"); !found {
			t.Fatalf("%s has no heading %q", page, heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
	}
	return commandsIn(section)
}

// block is an indented part of a document, or one between ```.
type block struct {
	language string
	lines    []string
}

func blocksIn(text string) (blocks []block) {
	fenced, open := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if language, ok := strings.CutPrefix(line, "```"); ok {
			fenced, open = !fenced, !fenced
			if fenced {
				blocks = append(blocks, block{language: language})
			}
			continue
		}
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case fenced:
			code = line
		case !indented:
			open = false
			continue
		case !open:
			blocks, open = append(blocks, block{}), true
		}
		last := &blocks[len(blocks)-1]
		last.lines = append(last.lines, code)
	}
	return blocks
}

// commandsIn returns the commands in the blocks of a document that are in no language. Lines that a backslash continues are one.
func commandsIn(text string) (commands []string) {
	comment := regexp.MustCompile(`\s\s+# .*`)
	for _, b := range blocksIn(text) {
		more := false
		for _, line := range b.lines {
			line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
			start, continued := strings.CutSuffix(line, `\`)
			switch {
			case more:
				commands[len(commands)-1] += " " + strings.TrimSpace(start)
			case b.language == "" && isCommand.MatchString(line):
				commands = append(commands, strings.TrimSpace(start))
			default:
				continue
			}
			more = continued
		}
	}
	return commands
}

// isCommand knows lines that begin with a program that the documents show.
var isCommand = regexp.MustCompile(`^(imgbuild|skopeo|podman|docker|umoci|tar|dd|truncate|wsl|xl|vagrant|debugfs|unsquashfs|xmllint|mmdebstrap|curl|rpmbuild|createrepo_c|diff|zsync|sha256sum|xorriso) \S`)

// words brings a command, of a document or of a transcript, into one form.
func words(command string) string {
	command = regexp.MustCompile(`^(!? ?exec|exits \d+) (sh -c )?`).ReplaceAllString(command, "")
	return strings.Join(strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(command)), " ")
}

// TestEveryDocumentedCommandIsRun looks for each command of the documents in the transcript of its page, or in the list of those that are run elsewhere.
func TestEveryDocumentedCommandIsRun(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	tests := everyTest(t)
	elsewhere := runElsewhere()
	for page, test := range pagesRunElsewhere() {
		for _, command := range documented(t, page, "") {
			elsewhere[page+": "+command] = test
		}
	}
	for _, path := range pages {
		page := filepath.Base(path)
		run := map[string]bool{}
		transcript, err := os.ReadFile(filepath.Join("testdata", "docs", strings.TrimSuffix(page, ".md")+".txtar"))
		if err == nil {
			for line := range strings.Lines(string(transcript)) {
				run[words(line)] = true
			}
		}
		for _, command := range documented(t, page, "") {
			place := elsewhere[page+": "+command]
			delete(elsewhere, page+": "+command)
			switch {
			case run[words(command)] && place != "":
				t.Errorf("%s: the transcript runs %q, which is said to be run elsewhere", page, command)
			case strings.HasPrefix(place, "Test") && !tests[place]:
				t.Errorf("%s: %q is said to be run by %s, which does not exist", page, command, place)
			case !run[words(command)] && place == "":
				t.Errorf("%s: no test runs %q: add it to testdata/docs, or say here where it is run", page, command)
			}
		}
	}
	for command := range elsewhere {
		t.Errorf("no document has %q", command)
	}
}

// everyTest returns the names of the project's tests.
func everyTest(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "build"}, entry.Name()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range name.FindAllSubmatch(text, -1) {
			tests[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// typesIn returns the <type> elements that a page shows. Where it shows the opening tag alone, it is closed.
func typesIn(text string) (types []string) {
	for _, b := range blocksIn(text) {
		element := strings.TrimSpace(strings.Join(b.lines, "\n"))
		if !strings.HasPrefix(element, "<type ") {
			continue
		}
		if !strings.HasSuffix(element, "</type>") && !strings.HasSuffix(element, "/>") {
			element += "</type>"
		}
		types = append(types, element)
	}
	return types
}

// around is a description of a <type> element.
func around(name, element string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="8.0" name=%q>
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>
%s
  </preferences>
  <repository type="apt-deb"><source path="http://127.0.0.1:9/nowhere"/></repository>
  <packages type="image"/>
</image>
`, name, element)
}

// described writes a description with a <type> that a page of the documents shows: described PAGE NUMBER FILE NAME
func described(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: described page number file name")
	}
	text, err := os.ReadFile(filepath.Join("../../docs", args[0]))
	ts.Check(err)
	types := typesIn(string(text))
	number, err := strconv.Atoi(args[1])
	ts.Check(err)
	if number < 1 || number > len(types) {
		ts.Fatalf("%s shows %d types", args[0], len(types))
	}
	file := ts.MkAbs(args[2])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, []byte(around(args[3], types[number-1])), 0o644))
}

// TestDocumentedTypesAreValid checks each <type> that the documents show.
func TestDocumentedTypesAreValid(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, element := range typesIn(string(text)) {
			checked++
			beside := fstest.MapFS{"config.xml": {Data: []byte(around("Example", element))}, "windows/AppxManifest.xml": {}}
			doc, err := description.LoadFS(beside, "", description.LoadOptions{})
			if err == nil {
				_, err = doc.Resolve(description.Selection{Arch: "x86_64"})
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(path), err, element)
			}
		}
	}
	if checked < 10 {
		t.Errorf("the documents show %d types", checked)
	}
}

// pagesRunElsewhere are tests that do what the commands of a page do.
func pagesRunElsewhere() map[string]string {
	return map[string]string{
		"boot.md": "TestBootAndRun", "build.md": "TestBuildingAsDocumented", "containers-into-vms.md": "TestContainerBecomesAWebServer", "cross-architecture.md": "TestBootArm64",
		"kernel-initrd-systems.md": "TestFormats", "live-iso.md": "TestBootLiveISO", "package-managers.md": "TestManagersThatFail", "xen.md": "TestBootXenHost",
	}
}

// runElsewhere says of commands, by the page and the command, which test runs them or why none can.
func runElsewhere() map[string]string {
	const download = "takes a root tree from the network, as make testdata does"
	return map[string]string{
		"containers.md: docker load -i App.x86_64-1.0.0.docker.tar":                                                                       "TestDockerEngineRunsThem",
		"disks.md: vagrant box add --name team/debian NAME.x86_64-1.0.0.vagrant.libvirt.box":                                              "needs Vagrant; TestVagrant reads the box",
		"from-kiwi.md: imgbuild --profile Virtual --type oem system build --description D --target-dir T":                                 "TestKiwisOrderOfArguments",
		"getting-started.md: imgbuild boot out/Debian-VM.x86_64-1.0.0.qcow2":                                                              "TestBootAndRun",
		"getting-started.md: mmdebstrap --variant=minbase bookworm debian.tar":                                                            download,
		"getting-started.md: imgbuild stackbuild --stash debian:12 --description examples/container-to-vm/debian --target-dir out":        "TestContainersBecomeADisk",
		"getting-started.md: imgbuild stackbuild --stash debian:12 --description examples/container-to-vm/debian --target-dir out --plan": "TestContainersBecomeADisk",
		"look-inside.md: imgbuild ls laptop.qcow2 /home --passphrase-file secret":                                                         "TestEncryptedVolumes",
		"stackbuild.md: imgbuild stackbuild --stash NAME[:TAG]... [--from-registry REG]... [--description DIR] --target-dir DIR":          "is the form of the command; testdata/stackbuild.txtar runs it",
		"stash.md: imgbuild stash --root DIR [--container-name NAME] [--tag TAG]":                                                         "is the form of the command",
		"stash.md: mmdebstrap --variant=minbase bookworm debian.tar":                                                                      download,
		"store.md: skopeo copy oci:$HOME/.local/share/imgbuild/store:web:v2 docker-daemon:web:v2":                                         "is skopeo's; TestDockerEngineRunsThem loads archives",
		"store.md: podman push web registry.example.org/trees/web":                                                                        "podman takes no other registry for that one; testdata/podman.txtar pushes",
		"wsl.md: wsl --install --from-file Distro.x86_64-1.0.0.wsl":                                                                       "needs Windows",
	}
}

// TestBuildingAsDocumented runs the commands of the page on building, with a repository and a container of its own.
func TestBuildingAsDocumented(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	d := newDebs(t)
	for _, name := range []string{"vim", "nano"} {
		d.add(name, "10.0", "") // the container's packages break with those of long ago
	}
	d.index(d.key)
	server := testrepos.Serve(t, d.repo, "", "")
	defer server.Close()
	text, err := os.ReadFile(filepath.Join(d.describe(server.URL, "needy", "nano"), "config.xml"))
	if err != nil {
		t.Fatal(err)
	}
	more := `<type image="docker" derived_from="debian"><containerconfig name="web"/></type></preferences>`
	d.write(filepath.Join(d.dir, "debian/config.xml"), strings.Replace(string(text), "</preferences>", more, 1), 0o644)
	for _, command := range documented(t, "build.md", "") {
		cmd := exec.Command("sh", "-c", "exec "+command)
		cmd.Dir, cmd.Env = d.dir, append(d.command().Env, "PATH="+d.dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		d.nothingLeft()
	}
	for file, there := range map[string]bool{
		"out/web.x86_64-1.0.0.oci.tar": true, "out2/web.x86_64-1.0.0.docker.tar": true, "all/web.x86_64-1.0.0.docker.tar": true, "tree/usr/share/vim": true, "tree/usr/share/nano": false, "debian/imgbuild.lock": true,
	} {
		if _, err := os.Stat(filepath.Join(d.dir, file)); (err == nil) != there {
			t.Errorf("%s is there: %v, want %v", file, err == nil, there)
		}
	}
}
