// Every text of the page, in English and Korean. lab/tests/live/words.mjs fails if one lacks its other language.

const WORDS = {
  title: ["Live lab", "라이브 실험실"],
  about: ["Change a weight, and watch the network answer. Every number is measured while it trains.",
    "가중치를 바꾸고 신경망의 반응을 지켜보세요. 모든 값은 학습하는 동안 측정한 것입니다."],
  language: ["Language", "언어"],
  footer: ["Nothing leaves this machine.", "어떤 데이터도 이 컴퓨터 밖으로 나가지 않습니다."],
  runs_on: ["{data} on {device}.", "{data}, 장치: {device}."],

  // Sections, for screen readers.
  tour_label: ["What to try", "해 볼 것"],
  bar_label: ["Training", "학습"],
  bench_label: ["Networks side by side", "나란히 놓인 신경망"],
  curves_label: ["Curves, moments and findings", "곡선, 시점, 진단"],

  // The race.
  story_race: ["Same network. Only the first weights differ.", "같은 신경망입니다. 처음 가중치만 다릅니다."],
  invite_race: ["A starts with weights of std 0.01 and only guesses. Save it: move its slider.",
    "A는 표준편차 0.01인 가중치로 시작해 찍기만 합니다. A의 슬라이더를 움직여 살려 보세요."],
  story_saved: ["Saved: near √(2/n) every layer is alive, and the loss falls.", "살아났습니다. √(2/n) 근처에서는 모든 층이 살아 있고 손실이 줄어듭니다."],
  invite_saved: ["n is the number of inputs of a unit, here the width. Ten layers forgive a small error. Do thirty?",
    "n은 유닛 하나가 받는 입력의 수, 여기서는 층의 너비입니다. 10층은 작은 오차를 봐줍니다. 30층도 그럴까요?"],
  story_deep: ["Thirty layers: a small error, thirty times over.", "30층: 작은 오차가 서른 번 곱해집니다."],
  invite_deep: ["Each layer multiplies the signal. Move the slider of A to 0.1, then to 0.2, and look at the last layers. Or take another way:",
    "층마다 신호에 같은 수가 곱해집니다. A의 슬라이더를 0.1로, 다시 0.2로 옮기고 마지막 층들을 보세요. 다른 길도 있습니다."],
  story_deep_saved: ["You hit it: thirty layers learn, because the first weights fit.", "맞혔습니다. 처음 가중치가 알맞아서 30층도 학습합니다."],
  invite_deep_saved: ["The deeper the network, the narrower the range that works. There is a way to need no luck:",
    "신경망이 깊을수록 통하는 범위는 좁아집니다. 운이 필요 없는 방법이 있습니다."],
  story_norm: ["With batch norm, every layer starts at std 1, whatever the weights.", "배치 정규화를 켜면 가중치와 상관없이 모든 층이 표준편차 1에서 시작합니다."],
  invite_norm: ["Move the slider of A far to either side: it still learns. Ten short lessons tell why.",
    "A의 슬라이더를 양쪽 끝으로 옮겨 보세요. 그래도 학습합니다. 이유는 짧은 수업 열 개에 있습니다."],
  story_free: ["Your own bench.", "직접 꾸미는 실험대입니다."],
  invite_free: ["All networks see the same batches in the same order, so what differs is what you changed.",
    "모든 신경망이 같은 배치를 같은 순서로 봅니다. 그래서 차이는 여러분이 바꾼 것에서만 나옵니다."],
  story_recording: ["A recording.", "녹화본입니다."],
  invite_recording: ["It plays back what a live lab measured. Nothing can be changed here.", "라이브 실험실이 측정한 것을 다시 보여 줍니다. 여기서는 바꿀 수 없습니다."],
  story_own: ["Your own network.", "직접 만든 신경망입니다."],
  invite_own: ["Your program trains it, so there are no controls, no digits and no test time here.",
    "학습은 여러분의 프로그램이 합니다. 그래서 여기에는 조절 장치, 숫자, 테스트가 없습니다."],
  set_he: ["Set it to √(2/n)", "√(2/n)으로 맞추기"],
  make_deep: ["Now make it 30 layers", "이제 30층으로 만들기"],
  turn_on_norm: ["Turn on batch norm", "배치 정규화 켜기"],
  first_lesson: ["Start the lessons", "수업 시작하기"],
  race_again: ["The race again", "경주 다시 보기"],
  to_race: ["To the race of two networks", "두 신경망의 경주로"],

  // Lessons.
  lessons: ["Ten lessons", "열 가지 수업"],
  lesson_title: ["Lesson {n} of {of}: {title}", "수업 {n}/{of}: {title}"],
  prediction: ["Your prediction", "여러분의 예측"],
  run: ["Run it", "실행하기"],
  close_lesson: ["Leave the lesson", "수업 나가기"],
  progress: ["Progress of the run", "실행 진행 정도"],
  running_step: ["Step {step} of {of}", "{of} 스텝 중 {step} 스텝"],
  prediction_right: ["Your prediction was right.", "예측이 맞았습니다."],
  prediction_wrong: ["Your prediction was not borne out.", "예측과 달랐습니다."],
  outcome: ["The run showed: {outcome}.", "실행 결과: {outcome}."],
  none_holds: ["none of these", "이 중에 없음"],
  unusual: ["This is unusual. Most runs show: {usual}.", "드문 결과입니다. 대부분의 실행에서는 다음과 같습니다: {usual}."],
  measured: ["Measured in this run:", "이번 실행에서 측정한 값:"],
  at_step: ["(step {step})", "({step} 스텝)"],
  try_next: ["Try next:", "다음에 해 볼 것:"],
  do_it: ["Do it", "해 보기"],
  next_lesson: ["Next lesson", "다음 수업"],
  once_more: ["Once more", "한 번 더"],

  // The bar.
  play: ["Play", "재생"],
  pause: ["Pause", "일시 정지"],
  one_step: ["One step", "한 스텝"],
  restart: ["Start again", "처음부터"],
  batch: ["Batch, images", "배치(장)"],
  seed: ["Seed", "시드"],
  add: ["Add a network", "신경망 추가"],
  copy: ["Copy link", "주소 복사"],
  copied: ["Copied", "복사했습니다"],
  copy_by_hand: ["The browser does not let the page copy. The address is {address}", "브라우저가 복사를 허용하지 않습니다. 주소: {address}"],
  save: ["Save", "저장"],
  step_epoch: ["Step {step} · epoch {epoch}", "{step} 스텝 · {epoch} 에포크"],
  speed: ["{images} images/s", "초당 {images}장"],
  rate: ["{n} steps/s", "초당 {n} 스텝"],
  paused: ["paused", "멈춤"],
  step: ["Step", "스텝"],
  steps: ["step {n}", "{n} 스텝"],
  now: ["now", "지금"],

  // A network.
  init: ["Initialisation", "가중치 초기화"],
  std: ["std of the weights", "가중치의 표준편차"],
  activation: ["Activation", "활성화 함수"],
  norm: ["Normalisation", "정규화"],
  depth: ["Hidden layers", "은닉층 수"],
  width: ["Units of a layer", "층의 유닛 수"],
  optimizer: ["Optimiser", "최적화 방법"],
  lr: ["Learning rate", "학습률"],
  init_zeros: ["zeros", "모두 0"],
  "init_standard-normal": ["N(0, 1)", "N(0, 1)"],
  "init_small-normal": ["N(0, 0.01²)", "N(0, 0.01²)"],
  init_xavier: ["Xavier: N(0, 1/n)", "Xavier: N(0, 1/n)"],
  init_slider: ["N(0, std²), by the slider", "N(0, 표준편차²), 슬라이더로"],
  init_he: ["He: N(0, 2/n)", "He: N(0, 2/n)"],
  norm_none: ["none", "없음"],
  norm_batch: ["batch norm, this crate's", "배치 정규화(이 크레이트)"],
  norm_burn: ["batch norm, Burn's", "배치 정규화(Burn)"],
  norm_batch_short: ["batch norm", "배치 정규화"],
  norm_burn_short: ["Burn's batch norm", "Burn 배치 정규화"],
  layers: ["{n} layers", "{n}층"],
  change: ["Change this network", "이 신경망 바꾸기"],
  fork: ["Fork: a copy from here", "여기서 복제하기"],
  remove: ["Remove", "지우기"],
  forked_from: ["A copy of {name} from step {step}.", "{name}의 {step} 스텝에서 복제했습니다."],
  loss_is: ["loss {loss}", "손실 {loss}"],
  not_finite: ["not finite", "유한하지 않음"],
  is_guessing: ["right, guessing", "정답, 찍는 중"],
  is_learning: ["right, learning", "정답, 배우는 중"],
  is_reading: ["right, reading", "정답, 읽는 중"],
  is_lost: ["lost", "발산함"],

  // The layers' picture.
  head_pre: ["into the activation", "활성화 입력"],
  head_gradient: ["gradient, log", "기울기(로그)"],
  head_spread: ["spread, log", "퍼짐(로그)"],
  gradient_axis: ["Size of the gradient, log scale", "기울기의 크기, 로그 눈금"],
  layers_picture: ["All layers of network {name}; the same numbers are in the table below", "신경망 {name}의 모든 층. 아래 표에 같은 값이 있습니다"],
  digits_picture: ["Network {name} reads {right} of 36 test digits right; wrong: {wrong}", "신경망 {name}은 테스트 숫자 36개 중 {right}개를 맞힙니다. 틀린 것: {wrong}"],
  key_flat: ["activation is flat", "활성화 함수가 평평한 곳"],
  key_theory: ["theory at step 0", "0 스텝에서의 이론값"],
  key_inputs: ["spread between inputs", "입력 사이의 퍼짐"],
  key_units: ["spread between units", "유닛 사이의 퍼짐"],
  key_outside: ["beyond the axis", "축 밖의 값"],
  what_layers: ["? Histograms", "? 히스토그램"],
  help_layers: ["Each row is a hidden layer, the input side on top: the histogram shows what its activation receives from the training batch, over the curve of the activation. A thin spike in the middle is a signal that died, bars at the edges are one that explodes.",
    "한 줄이 은닉층 하나이고 맨 위가 입력 쪽입니다. 히스토그램은 학습 배치에서 활성화 함수가 받는 값을 그 곡선 위에 보여 줍니다. 가운데의 가는 막대는 죽은 신호, 양 끝의 막대는 폭발하는 신호입니다."],
  what_gradient: ["? Gradient", "? 기울기"],
  help_gradient: ["The histogram of the gradient's size at each layer, on one log scale for all layers and networks. If it drifts to the left towards the first layers, these hardly learn; a 0 means that no gradient arrives at all.",
    "각 층에서 기울기 크기의 히스토그램입니다. 모든 층과 신경망이 같은 로그 눈금을 씁니다. 첫 층으로 갈수록 왼쪽으로 밀리면 그 층들은 거의 배우지 못합니다. 0은 기울기가 전혀 오지 않는다는 뜻입니다."],
  what_spread: ["? Spread", "? 퍼짐"],
  help_spread: ["Upper bar: how much a unit's output varies from image to image; if it vanishes, the layer no longer tells images apart. Lower bar: how much the units' means differ; both are stds on a log scale from 0.0001 to 10.",
    "위 막대는 유닛의 출력이 이미지마다 얼마나 달라지는지입니다. 이것이 사라지면 그 층은 이미지를 구별하지 못합니다. 아래 막대는 유닛들의 평균이 서로 얼마나 다른지입니다. 둘 다 표준편차이고 0.0001에서 10까지의 로그 눈금입니다."],
  what_digits: ["? Digits", "? 숫자"],
  help_digits: ["36 digits that no network has seen in training, read as set under “At test time”. A wrong answer has an orange frame and the answer in the corner.",
    "학습에 쓰지 않은 숫자 36개를 ‘테스트할 때’의 설정대로 읽습니다. 틀린 답에는 주황색 테두리와 그 답이 붙습니다."],
  as_table: ["As a table", "표로 보기"],
  number: ["Number", "값의 이름"],
  value: ["Value", "값"],
  std_short: ["std of the output", "출력의 표준편차"],
  pre_std: ["std into the activation", "활성화 함수 입력의 표준편차"],
  spread_inputs: ["Spread between inputs (std)", "입력 사이의 퍼짐(표준편차)"],
  spread_units: ["Spread between units (std)", "유닛 사이의 퍼짐(표준편차)"],
  saturated: ["Saturated", "포화"],
  dead: ["Dead units", "죽은 유닛"],
  copies: ["Copies of other units", "다른 유닛의 복사본"],
  gradient_std: ["std of the gradient", "기울기의 표준편차"],
  update: ["Update / weight", "갱신량 / 가중치"],

  // Curves and moments.
  loss: ["Training loss", "학습 손실"],
  accuracy: ["Test accuracy", "테스트 정확도"],
  guessing: ["guessing", "찍기"],
  help_loss: ["How wrong each network is on the batch it trains on, in nats, on a log scale. Guessing among ten digits costs 2.3.",
    "각 신경망이 학습하는 배치에서 얼마나 틀리는지를 나트(nat) 단위, 로그 눈금으로 보여 줍니다. 열 숫자 중 하나를 찍으면 2.3입니다."],
  help_accuracy: ["The share of 1000 fixed test images that each network gets right. Guessing gets about 10 %.",
    "정해진 테스트 이미지 1000장 중 맞힌 비율입니다. 찍으면 약 10 %입니다."],
  moment: ["Look at", "볼 시점"],
  back_live: ["Back to now", "지금으로"],
  rewind: ["Rewind to here", "여기로 되감기"],
  rewinds_to: ["Rewinds all networks to the kept step {step}.", "모든 신경망을 보관된 {step} 스텝으로 되감습니다."],
  findings: ["Findings", "진단"],
  no_findings: ["None: nothing wrong is found.", "없습니다. 잘못된 점을 찾지 못했습니다."],

  // One layer.
  one_layer: ["One layer, large", "한 층 크게 보기"],
  layer: ["Layer hidden.", "은닉층 hidden."],
  help_one_layer: ["Click a row above to choose a layer; 0 is at the input side. Multiply its weights or kill some of its units, and watch the layers behind it.",
    "위 그림의 줄을 누르면 층을 고릅니다. 입력 쪽이 0입니다. 가중치에 수를 곱하거나 유닛 일부를 죽이고, 뒤따르는 층들을 지켜보세요."],
  layer_text: ["std {std} · saturated {saturated} · dead units {dead} · copies {copies}", "표준편차 {std} · 포화 {saturated} · 죽은 유닛 {dead} · 복사본 {copies}"],
  units_map: ["Outputs: images down, units across", "출력: 세로는 이미지, 가로는 유닛"],
  units_axes: ["{rows} images × {columns} units; dark is {low}, bright is {high}.", "이미지 {rows}장 × 유닛 {columns}개. 어두우면 {low}, 밝으면 {high}입니다."],
  units_none: ["Shown live only.", "실시간으로만 보입니다."],
  what_units: ["? Map", "? 지도"],
  help_units: ["Each cell is one unit's output for one image. Equal columns are units that copy each other (symmetry); equal rows are images that the layer no longer tells apart.",
    "한 칸은 이미지 하나에 대한 유닛 하나의 출력입니다. 세로줄이 같으면 서로 베끼는 유닛(대칭)이고, 가로줄이 같으면 층이 더 이상 구별하지 못하는 이미지입니다."],
  what_norm: ["? Batch norm", "? 배치 정규화"],
  help_norm: ["In training, batch norm shifts and scales each unit to mean 0 and std 1 over the batch, then applies gamma and beta, which are learned. It remembers running averages of the batches' means and variances and uses these at test time.",
    "배치 정규화는 학습할 때 각 유닛을 배치 안에서 평균 0, 표준편차 1로 맞춘 뒤 학습되는 값인 감마와 베타를 적용합니다. 배치의 평균과 분산의 이동평균을 기억해 두었다가 테스트할 때 씁니다."],
  norm_key: ["Needle: this batch. Triangle: running average. One unit's mean and variance.", "바늘: 이번 배치. 삼각형: 이동평균. 유닛 하나의 평균과 분산입니다."],
  norm_text: ["std {input} at the input, {output} at the output", "입력의 표준편차 {input}, 출력의 표준편차 {output}"],
  std_in: ["std at its input", "입력 표준편차"],
  std_out: ["std at its output", "출력 표준편차"],
  mean: ["Mean", "평균"],
  variance: ["Variance", "분산"],
  batch_mean: ["Batch mean", "배치 평균"],
  running_mean: ["Running mean", "이동평균"],
  batch_var: ["Batch variance", "배치 분산"],
  running_var: ["Running variance", "이동분산"],
  gamma: ["gamma, of all units", "감마(모든 유닛)"],
  beta: ["beta, of all units", "베타(모든 유닛)"],
  mean_range: ["mean {mean}, from {low} to {high}", "평균 {mean}, {low}에서 {high}까지"],
  multiply: ["Multiply the weights", "가중치에 곱하기"],
  multiply_by: ["Multiply the weights of this layer by {factor}", "이 층의 가중치에 {factor} 곱하기"],
  kill: ["Kill units", "유닛 죽이기"],
  kill_share: ["Kill {share} of the units of this layer", "이 층의 유닛 {share} 죽이기"],

  // Heat maps.
  over_time: ["All layers over time", "시간에 따른 모든 층"],
  shows: ["Colour shows", "색이 나타내는 것"],
  heat_std: ["std of the output, log scale", "출력의 표준편차, 로그 눈금"],
  heat_saturated: ["share of saturated outputs (or dead units)", "포화된 출력(또는 죽은 유닛)의 비율"],
  heat_update: ["update / weight, log scale", "갱신량 / 가중치, 로그 눈금"],
  heat_picture: ["Network {name}: {shows}, layers down and steps across", "신경망 {name}: {shows}, 세로는 층, 가로는 스텝"],
  help_over_time: ["Layers go down, steps go across, so a column is one moment. Click a column, and every picture shows that moment.",
    "세로는 층, 가로는 스텝이므로 세로줄 하나가 한 시점입니다. 누르면 모든 그림이 그 시점을 보여 줍니다."],

  // The pad.
  pad: ["Draw a digit", "숫자 그리기"],
  help_pad: ["Draw a digit with the mouse or a finger, and every network reads it at once. Your drawing is centred as in MNIST; “Take a test digit” works by keyboard.",
    "마우스나 손가락으로 숫자를 그리면 모든 신경망이 동시에 읽습니다. 그림은 MNIST처럼 가운데로 맞춥니다. ‘테스트 숫자 가져오기’는 키보드로도 됩니다."],
  clear: ["Clear", "지우기"],
  take: ["Take a test digit", "테스트 숫자 가져오기"],
  pad_empty: ["Every network will answer here.", "신경망들의 답이 여기에 나옵니다."],
  pad_says: ["reads {digit}, {share} sure", "{digit}로 읽음, 확신 {share}"],

  // At test time.
  test: ["At test time", "테스트할 때"],
  test_intro: ["In training, batch norm uses the batch's own mean and variance. At test time it should use its running ones.",
    "배치 정규화는 학습할 때 배치 자신의 평균과 분산을 쓰고, 테스트할 때는 이동평균과 이동분산을 써야 합니다."],
  help_test: ["The test images are put through the networks in batches of the chosen size and classes. With the batch's own statistics the answer for an image depends on its neighbours; a batch of one class loses what its images have in common, which is the class.",
    "고른 크기와 클래스의 배치로 테스트 이미지를 신경망에 넣습니다. 배치 자신의 통계를 쓰면 한 이미지의 답이 이웃 이미지에 좌우됩니다. 한 클래스만 있는 배치는 이미지들의 공통점, 곧 그 클래스를 잃어버립니다."],
  test_batch: ["Size of the test batch", "테스트 배치 크기"],
  images: ["{n} images", "{n}장"],
  classes: ["Classes in the batch", "배치에 넣을 클래스"],
  classes_all: ["All", "모두"],
  classes_3: ["Only 3", "3만"],
  statistics: ["Batch norm uses", "배치 정규화가 쓰는 통계"],
  running_statistics: ["its running statistics", "이동평균과 이동분산"],
  own_statistics: ["the test batch's own", "테스트 배치 자신의 통계"],
  test_right: ["{share} right", "정답 {share}"],
  test_plain: ["For comparison, on all classes with running statistics: {share}", "비교: 모든 클래스, 이동 통계로 {share}"],
  test_lag: ["First layer, mean over units: batch variance {batch}, running variance {running}.", "첫 층, 유닛 평균: 배치 분산 {batch}, 이동분산 {running}."],
  test_no_norm: ["No batch norm here: the batch makes no difference.", "배치 정규화가 없어서 배치가 영향을 주지 않습니다."],
  recalibrate: ["Recalibrate the running statistics", "이동 통계 재보정"],

  // Trouble.
  gone: ["The lab does not answer. Trying again… If it was started anew, reload this page.", "실험실이 응답하지 않습니다. 다시 연결하는 중… 새로 시작했다면 이 페이지를 새로 고치세요."],
  not_done: ["That could not be done: the lab did not answer.", "할 수 없었습니다. 실험실이 응답하지 않습니다."],
};

/// Texts that are others for a network of the user's own.
const OWN = {
  about: ["What your program sees at its points, measured while it trains.", "프로그램의 관측 지점에서 학습하는 동안 측정한 것입니다."],
  head_pre: ["values at the point", "지점의 값"],
  help_layers: ["Each row is a point of your network, the first on top: the histogram of its values in one step, on one axis for all points.",
    "한 줄이 신경망의 관측 지점 하나이고 맨 위가 첫 지점입니다. 한 스텝의 값을 히스토그램으로 보여 주며 모든 지점이 같은 축을 씁니다."],
  layer: ["Point", "지점"],
};

const byId = (id) => document.getElementById(id);
let language = "en";

/// The text of a key in the chosen language, with its `{names}` filled in.
function t(key, values = {}) {
  const text = WORDS[key][LANGUAGES.indexOf(language)];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "–");
}

function chooseLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
}

/// Fills in the texts of index.html.
function applyWords() {
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = t(element.dataset.label);
  for (const element of document.querySelectorAll(".help")) {
    const { help } = element.dataset;
    const named = `what_${help}` in WORDS;
    const summary = named ? make("summary", {}, t(`what_${help}`)) : make("summary", { ariaLabel: `? ${t(help)}` }, "?");
    element.replaceChildren(summary, make("p", {}, t(`help_${help}`)));
  }
  for (const it of LANGUAGES) byId(it).setAttribute("aria-pressed", it === language);
}
