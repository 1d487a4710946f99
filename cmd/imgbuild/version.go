package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases: -X main.version=v1.2.3.
var version string

func newVersion(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		GroupID: groupOther,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.stdout, versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("imgbuild %s %s/%s %s", versionText(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// versionText is the release, or the commit that the program was built from.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value[:min(12, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			modified = "+changes"
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return "devel-" + revision + modified
}
