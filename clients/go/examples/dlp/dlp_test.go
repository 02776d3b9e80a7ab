package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warp.example/hook"
	"warp.example/hook/hooktest"
	"warp.example/hook/hookv1"
)

const card = "4111 1111 1111 1111"

func verdictOn(t *testing.T, message []byte, envelope *hookv1.Envelope) *hookv1.BeforeRelayResponse {
	t.Helper()
	verdict, err := check(t.Context(), hook.NewMessage(envelope, bytes.NewReader(message)))
	if err != nil {
		t.Fatal(err)
	}
	return hooktest.Response(t, verdict)
}

func messages(t testing.TB) []string {
	paths, err := filepath.Glob("../../../testdata/dlp/*/*.eml")
	if err != nil || len(paths) < 50 {
		t.Fatalf("%d messages in testdata/dlp, %v", len(paths), err)
	}
	return paths
}

func TestGivesTheVerdictThatTheFolderNames(t *testing.T) {
	for _, path := range messages(t) {
		wanted := filepath.Base(filepath.Dir(path))
		t.Run(wanted+"/"+filepath.Base(path), func(t *testing.T) {
			message, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := verdictOn(t, message, nil)
			if wanted == "relay" && got.GetRelay() == nil {
				t.Fatalf("not relayed: %v", got)
			}
			if wanted == "reject" && (got.GetReject().GetCode() != 550 || !slices.Equal(got.Tags, []string{"card-number"})) {
				t.Fatalf("not rejected: %v", got)
			}
			if strings.Contains(got.String(), "4111") {
				t.Errorf("the number must not be in the verdict: %v", got)
			}
		})
	}
}

func nested(depth int) []byte {
	message := "\r\n" + card
	for level := range depth {
		message = fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s\r\n--b%d--\r\n", level, level, message, level)
	}
	return []byte(message)
}

func TestLooksThroughThirtyLevelsOfPartsAndRefusesMore(t *testing.T) {
	if got := verdictOn(t, nested(30), nil); got.Tags[0] != "card-number" {
		t.Errorf("30 levels: %v", got)
	}
	for _, depth := range []int{100, 5_000} {
		if got := verdictOn(t, nested(depth), nil); got.GetReject().GetCode() != 554 || got.Tags[0] != "uninspectable" {
			t.Errorf("%d levels: %v", depth, got)
		}
	}
}

func TestRefusesWhatItCannotInspect(t *testing.T) {
	for name, message := range map[string]string{
		"parts":         "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000),
		"header fields": strings.Repeat("a:\r\n", 1_000_000),
		"digit groups":  "\r\n" + strings.Repeat("4 ", 5<<20),
	} {
		if got := verdictOn(t, []byte(message), nil); !slices.Equal(got.Tags, []string{"uninspectable"}) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSaysSoWhenTheProxySentOnlyAPart(t *testing.T) {
	got := verdictOn(t, []byte("\r\nHi\r\n"), &hookv1.Envelope{Truncated: true})
	if got.GetRelay() == nil || !slices.Equal(got.Tags, []string{"partly-inspected"}) {
		t.Error(got)
	}
}

func TestFindsTheNumberBehindTenMegabytesInTime(t *testing.T) {
	const size = 10 << 20
	encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("lorem ipsum ", 640_000) + card))
	for name, message := range map[string]string{
		"text":             "\r\n" + strings.Repeat("The quick brown fox jumps over 13 lazy dogs.\r\n", size/46) + card,
		"base64":           "Content-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"one line":         "\r\n" + strings.Repeat("a", size) + card,
		"digits":           "\r\n" + strings.Repeat("4", size) + " x " + card,
		"angle brackets":   "Content-Type: text/html\r\n\r\n" + strings.Repeat("<", size) + card,
		"quoted printable": "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=", size) + " \r\n" + card,
		"soft breaks":      "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("= ", size/2) + "\r\n" + card,
		"equals signs":     "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("AA=", size/3) + base64.StdEncoding.EncodeToString([]byte(card)),
		"NUL":              "\r\n" + strings.Repeat("\x00", size) + card,
		"invalid UTF-8":    "Content-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("\xc3\xff", size/2) + " " + card,
		"boundaries":       "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b", size/3) + "\r\n" + card,
		"subject":          "Subject: " + strings.Repeat("=?utf-8?q?", size/10) + " " + card + "\r\n\r\n",
		"parameters":       "Content-Type: text/plain" + strings.Repeat(`;a="`, size/4) + "\r\n\r\n" + card,
		"references":       "Content-Type: text/html\r\n\r\n" + strings.Repeat("&#", size/2) + " " + card,
		"UTF-7":            "Content-Type: text/plain; charset=utf-7\r\n\r\n" + strings.Repeat("+", size) + " " + card,
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			if got := verdictOn(t, []byte(message), nil); !slices.Equal(got.Tags, []string{"card-number"}) {
				t.Error(got)
			}
			if took := time.Since(started); took > 20*time.Second {
				t.Errorf("%v: a hostile message must not hold a filter past the proxy's 30 s", took)
			}
		})
	}
}

func TestStopsWhenTheProxyNoLongerWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := check(ctx, hook.NewMessage(nil, strings.NewReader("Subject: x\r\n\r\nHi\r\n"))); err != context.Canceled {
		t.Error(err)
	}
}

func TestKnowsTheIssuersTestNumbersAndNoNeighbourOfThem(t *testing.T) {
	for _, digits := range []string{
		"4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005",
		"371449635398431", "30569309025904", "6011111111111117", "3530111333300000", "6200000000000005",
	} {
		for last := byte('0'); last <= '9'; last++ {
			other := digits[:len(digits)-1] + string(last)
			if got, want := isCardNumber(other), other == digits; got != want {
				t.Errorf("%s: %v, not %v", other, got, want)
			}
		}
	}
}

func TestCountsEachNumberOnce(t *testing.T) {
	if count, err := newSearch().find("4111111111111111 5555 5555 5555 4444"); count != 2 || err != nil {
		t.Error(count, err)
	}
}

func FuzzAnyOctetsGiveTextsOrAnError(f *testing.F) {
	for _, path := range messages(f) {
		message, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		search := newSearch()
		for text, err := range texts(message) {
			if err == nil {
				_, err = search.find(text)
			}
			if err != nil {
				return
			}
		}
	})
}
