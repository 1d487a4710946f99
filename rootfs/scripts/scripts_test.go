package scripts

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// runScript runs a script in a tree with the host's programs.
func runScript(t *testing.T, text string) (root string, log string, err error) {
	t.Helper()
	testenv.NeedRoot(t)
	root = t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc", "image"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, data := range map[string]string{"image/config.sh": text, ".kconfig": string(Library()), ".profile": "kiwi_iname='x y'\n", "bin/bash": "x", "bin/sh": "x"} {
		if err := edit.WriteFile(name, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, "bin/") {
			if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out bytes.Buffer
	err = Run(t.Context(), Config, Options{
		Tree: edit.Tree(), Variables: map[string]string{"kiwi_iname": "x y"}, Env: []string{"SOURCE_DATE_EPOCH=86400"}, Workdir: t.TempDir(),
		Progress: progress.Discard, Log: slog.New(slog.NewTextHandler(&out, nil)),
		Run: func(ctx context.Context, spec sandbox.Spec) error {
			spec.Root = root
			for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64"} {
				if _, err := os.Stat(dir); err == nil {
					spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
				}
			}
			return sandbox.Run(ctx, spec)
		},
	})
	return root, out.String(), err
}

func TestRun(t *testing.T) {
	root, log, err := runScript(t, `#!/bin/bash
set -e
test -f /.kconfig && . /.kconfig
test -f /.profile && . /.profile
false || echo "name=$kiwi_iname" > /result
baseSetupBuildDay
printf 'A="1"\nB=2\n' > /etc/x
baseUpdateSysConfig /etc/x B "two words"
baseUpdateSysConfig /etc/x C 3
baseQuoteFile /etc/x > /quoted
if baseSystemdServiceInstalled nothing; then exit 5; fi
echo done
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"result": "name=x y\n", "build_day": "build_day=19700102\n", "etc/x": "A=\"1\"\nB=\"two words\"\nC=\"3\"\n", "quoted": "A='1'\nB='two words'\nC='3'\n",
	} {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if !strings.Contains(log, "line=done") {
		t.Errorf("log %q", log)
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"bash", "#!/bin/bash\nset -e\necho before\nls /nowhere\necho after\n", []string{"running config.sh", "it failed at line 4 (exit code 2): ls /nowhere", "before", "No such file"}},
		{"function", "#!/bin/bash -e\nbroken() {\n  false\n}\nbroken\n", []string{"line 3 (exit code 1): false"}},
		{"without first line", "echo x\nexit 9\n", []string{"running config.sh: it failed at line 2 (exit code 9): exit 9; it said: x"}},
		{"sh", "#!/bin/sh\nset -e\nnonsense\n", []string{"it failed at line 3 (exit code 127)", "nonsense: not found"}},
		{"interpreter", "#!/usr/bin/perl6\n", []string{"/usr/bin/perl6", "add the package"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := runScript(t, test.script)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q has no %q", err, want)
				}
			}
		})
	}
}

// TestLibrary lets shells check the functions and looks whether all names that scripts know are there.
func TestLibrary(t *testing.T) {
	for _, shell := range []string{"bash", "dash"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			testenv.Missing(t, "%v", err)
		}
		testenv.Run(t, path, "-n", "kconfig.sh")
	}
	for name := range strings.FieldsSeq(`baseSystemdServiceInstalled baseSysVServiceInstalled baseSystemdCall baseInsertService baseRemoveService baseService suseImportBuildKey
		baseStripLocales baseStripTranslations baseStripUnusedLibs baseUpdateSysConfig baseStripInitrd baseStripFirmware baseStripModules baseStripKernelModules
		baseUpdateModuleDependencies baseStripKernel baseSetRunlevel baseSetupBuildDay baseVagrantSetup suseInsertService suseRemoveService suseService suseSetupProduct Echo Debug
		baseQuoteFile baseCreateKernelTree baseSyncKernelTree baseFixupKernelModuleDependencies baseKernelDriverMatches baseStripAndKeep baseStripTools Rm deprecated baseCleanMount
		baseMount suseActivateDefaultServices baseSetupUserPermissions suseConfig baseGetPackagesForDeletion baseGetProfilesUsed baseStripMans baseStripDocs baseStripInfos Rpm
		rhelStripInitrd rhelStripKernel debianStripInitrd debianStripKernel suseSetupProductInformation baseCleanup suseCleanup suseRemoveYaST setupContainerRuntime mountCgroups
		umountCgroups`) {
		if !bytes.Contains(library, []byte("\n"+name+"() {")) {
			t.Errorf("there is no function %s", name)
		}
	}
}
