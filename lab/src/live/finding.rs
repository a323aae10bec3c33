//! Findings as a page shows them: their kind, their place, and their words in two languages.

use burn_kindling::observe::{Change, Finding, Place};

use super::advice::advice;
use super::config::NetworkConfig;
use super::frame::FindingFrame;
use super::text::Text;
use crate::number::Number;

/// The findings of a network, with advice if it can be changed.
pub(super) fn frames(findings: &[Finding], config: Option<&NetworkConfig>) -> Vec<FindingFrame> {
    let frame = |finding: &Finding| FindingFrame {
        kind: finding.kind(),
        text: Text::new(finding.to_string(), korean(finding)),
        layer: finding.places()[0].to_owned(),
        advice: config.and_then(|config| advice(finding, config)),
    };
    findings.iter().map(frame).collect()
}

/// What [`Finding`] prints, in Korean: what was found, what it means, what to try.
fn korean(finding: &Finding) -> String {
    let [found, meaning, remedy] = match finding {
        Finding::NotFinite(it) => [
            format!("유한하지 않음: {}의 값 중 {}가 NaN 또는 무한대입니다 (기준: 하나라도)", place(it), share(it)),
            "이 값에서 계산되는 모든 것이 쓸모없어지고, 한 스텝이면 가중치가 망가집니다.".into(),
            "더 낮은 학습률, He 또는 Xavier 초기화, 배치 정규화".into(),
        ],
        Finding::NoGradient(it) => [
            format!(
                "기울기 없음: {}에 기울기가 닿지 않았습니다, 전체 가중치의 {} (기준: 하나라도)",
                place(it),
                share(it)
            ),
            "이 가중치는 학습할 수 없습니다. 순전파에서 쓰이지 않거나, 그래프가 끊겼거나, 기울기를 요구하지 않습니다. 일부러 고정했다면 정상입니다.".into(),
            "`require_grad`; `detach`, `inner`, `no_grad`와 `forward`에서 빠진 층을 찾아보기".into(),
        ],
        Finding::Symmetry(it) => [
            format!("대칭: {}의 {}가 서로 똑같습니다 (기준: 절반)", place(it), share(it)),
            "똑같이 시작한 유닛은 똑같은 기울기를 받아 계속 똑같습니다. 초기 가중치가 모두 같은 값이었거나, 배치 정규화가 입력 두 개를 1과 -1로 만들었습니다.".into(),
            "무작위 초기 가중치: ReLU에는 He, tanh에는 Xavier; 배치 정규화에는 더 큰 배치".into(),
        ],
        Finding::Dead(it) => [
            format!("죽은 유닛: {}의 유닛 중 {}가 모든 입력에서 0입니다 (기준: 절반)", place(it), share(it)),
            "기울기가 이 유닛을 지나지 못해 학습이 멈춥니다. 가중치나 갱신량이 너무 컸거나, 가중치가 0입니다.".into(),
            "He 초기화, 더 낮은 학습률, 배치 정규화".into(),
        ],
        Finding::Saturated(it) => [
            format!("포화: {}의 값 중 {}가 활성화 함수의 평평한 곳에 있습니다 (기준: 절반)", place(it), share(it)),
            "그곳에서는 기울기가 거의 0이라 신호가 거꾸로 전해지지 않습니다. 가중치가 너무 큽니다.".into(),
            "Xavier 초기화, 배치 정규화".into(),
        ],
        Finding::SignalTooSmall(it) => [
            format!(
                "신호가 너무 작음: {}의 제곱평균제곱근이 {}입니다 (기준: 1/30)",
                place(it),
                Number(it.measured)
            ),
            "뒤따르는 층이 느리게 학습합니다. 입력이나 첫 가중치가 너무 작습니다.".into(),
            "평균 0, 표준편차 1인 입력; He 또는 Xavier 초기화; 배치 정규화".into(),
        ],
        Finding::SignalTooLarge(it) => [
            format!(
                "신호가 너무 큼: {}의 제곱평균제곱근이 {}입니다 (기준: 30)",
                place(it),
                Number(it.measured)
            ),
            "손실이 지나치게 큰 값에서 시작합니다. 입력이나 첫 가중치가 너무 큽니다.".into(),
            "평균 0, 표준편차 1인 입력; He 또는 Xavier 초기화; 배치 정규화".into(),
        ],
        Finding::SignalVanishes(it) => [
            format!("신호 소실: 표준편차가 {} (기준: 10배 감소)", change(it)),
            "뒤쪽 층에는 모든 입력이 똑같아 보입니다. 가중치가 너무 작습니다.".into(),
            "ReLU에는 He 초기화, tanh에는 Xavier; 배치 정규화".into(),
        ],
        Finding::SignalExplodes(it) => [
            format!("신호 폭발: 표준편차가 {} (기준: 10배 증가)", change(it)),
            "손실이 지나치게 큰 값에서 시작하고, 더 깊은 신경망은 넘칩니다. 가중치가 너무 큽니다.".into(),
            "ReLU에는 He 초기화; 배치 정규화".into(),
        ],
        Finding::InputsAlike(it) => [
            format!("입력이 구별되지 않음: 값 크기에 대한 입력 간 차이가 {} (기준: 100배 감소)", change(it)),
            "마지막 층들이 모든 입력에 거의 같은 출력을 내므로 클래스를 구별할 수 없습니다.".into(),
            "시그모이드 대신 tanh나 ReLU; 배치 정규화; 더 적은 층".into(),
        ],
        Finding::GradientVanishes(it) => [
            format!("기울기 소실: 노름이 {} (기준: 100배 감소, 출력에서는 30배)", change(it)),
            "앞쪽 층이 아주 느리게 학습합니다.".into(),
            "ReLU에는 He 초기화, tanh에는 Xavier; 배치 정규화; 시그모이드가 아닌 활성화 함수".into(),
        ],
        Finding::GradientExplodes(it) => [
            format!("기울기 폭발: 노름이 {} (기준: 100배 증가, 출력에서는 30배)", change(it)),
            "뒤쪽 층에 맞는 학습률이 앞쪽 층에는 지나치게 큽니다.".into(),
            "ReLU에는 He 초기화, tanh에는 Xavier; 기울기 자르기; 더 적은 층".into(),
        ],
        Finding::UpdatesTooLarge(it) => [
            format!(
                "갱신량이 너무 큼: 한 스텝에 {}가 그 크기의 {}만큼 움직입니다 (기준: 0.5)",
                place(it),
                Number(it.measured)
            ),
            "0.001 정도가 알맞습니다. 이런 스텝 몇 번이면 배운 것이 모두 지워집니다.".into(),
            "더 낮은 학습률".into(),
        ],
        Finding::UpdatesTooSmall(it) => [
            format!(
                "갱신량이 너무 작음: 한 스텝에 {}가 제곱평균제곱근의 {}만큼 움직입니다 (기준: 1e-5)",
                place(it),
                Number(it.measured)
            ),
            "0.001 정도가 알맞습니다. 이런 가중치는 아주 느리게 학습합니다.".into(),
            "더 높은 학습률; 초기 가중치가 크면 더 작게, 기울기가 소실되면 더 크게".into(),
        ],
    };
    format!("{found}\n  {meaning}\n  해 볼 것: {remedy}.")
}

fn share(place: &Place) -> String {
    match place.measured.is_nan() {
        true => "일부".into(),
        false => format!("{:.1}%", 100.0 * place.measured),
    }
}

fn place(place: &Place) -> String {
    let name = place
        .name
        .replace("the gradient of ", "기울기 ")
        .replace("the update of ", "갱신량 ");
    match place.also.as_slice() {
        [] => name,
        [first, _, _, .., last] => format!(
            "{name} (외에 {first}부터 {last}까지 {}곳)",
            place.also.len()
        ),
        few => format!("{name} (외에 {})", few.join(", ")),
    }
}

fn change(change: &Change) -> String {
    let [before, after] = change.measured.map(Number);
    format!(
        "{}의 {before}에서 {}의 {after}로 바뀌었습니다, {}곳을 지나",
        change.from, change.to, change.points
    )
}
